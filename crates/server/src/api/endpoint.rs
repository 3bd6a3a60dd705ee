//! The paths that are not those of documents: one table of them makes the router, and describes it.

use std::collections::BTreeMap;

use axum::Router;
use axum::http::Method;
use axum::routing::{MethodFilter, MethodRouter};

/// One method of one path: what answers it, and what is said of it.
pub(crate) struct Endpoint<S> {
    /// The method.
    pub(crate) method: Method,
    /// The path, as the router takes it: `/v1/jobs/{id}`.
    pub(crate) path: &'static str,
    /// What people are told about it.
    pub(crate) about: About,
    serve: Serve<S>,
}

/// Adds a handler to those of a path.
pub(crate) type Serve<S> = fn(MethodFilter, MethodRouter<S>) -> MethodRouter<S>;

/// What people are told about an endpoint.
#[derive(Debug, Clone)]
pub(crate) struct About {
    /// What it does, in a sentence without a full stop.
    pub(crate) summary: &'static str,
    /// Whether anybody may ask.
    pub(crate) open: Door,
    /// The parameters in its query: their names, and what they are for.
    pub(crate) query: Vec<(&'static str, &'static str)>,
    /// The headers that it looks at.
    pub(crate) headers: Vec<(&'static str, &'static str)>,
    /// What it takes.
    pub(crate) body: Option<Content>,
    /// What it answers with when all is well: the status, what that means, and what comes.
    pub(crate) answers: Vec<(u16, &'static str, Content)>,
}

/// Whether anybody may ask.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Door {
    /// Whoever has a token that allows it.
    Guarded,
    /// Everybody.
    Open,
}

/// What a body is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Content {
    /// JSON of a shape that has a name among the schemas.
    Json(&'static str),
    /// JSON that is described elsewhere.
    AnyJson,
    /// A JSON document, or with `watch` a stream of others, one on each line.
    JsonOrStream(&'static str, &'static str),
    /// Words.
    Text,
    /// Bytes.
    Bytes,
    /// Nothing.
    Nothing,
}

impl<S> Endpoint<S> {
    /// Returns an endpoint of which nothing is said yet but what it does.
    pub(crate) fn new(
        method: Method,
        path: &'static str,
        summary: &'static str,
        serve: Serve<S>,
    ) -> Self {
        let about = About {
            summary,
            open: Door::Guarded,
            query: Vec::new(),
            headers: Vec::new(),
            body: None,
            answers: Vec::new(),
        };
        Self { method, path, about, serve }
    }

    /// Says that everybody may ask.
    pub(crate) fn open(mut self) -> Self {
        self.about.open = Door::Open;
        self
    }

    /// Says what a parameter of the query is for.
    pub(crate) fn query(mut self, name: &'static str, meaning: &'static str) -> Self {
        self.about.query.push((name, meaning));
        self
    }

    /// Says what a header is for.
    pub(crate) fn header(mut self, name: &'static str, meaning: &'static str) -> Self {
        self.about.headers.push((name, meaning));
        self
    }

    /// Says what it takes.
    pub(crate) fn takes(mut self, body: Content) -> Self {
        self.about.body = Some(body);
        self
    }

    /// Says what it answers with.
    pub(crate) fn answers(mut self, code: u16, meaning: &'static str, content: Content) -> Self {
        self.about.answers.push((code, meaning, content));
        self
    }
}

/// Returns the router of a table.
///
/// # Panics
///
/// When the table has a method twice for one path, or one that no router knows.
pub(crate) fn routes<S: Clone + Send + Sync + 'static>(endpoints: Vec<Endpoint<S>>) -> Router<S> {
    let mut paths: BTreeMap<&'static str, MethodRouter<S>> = BTreeMap::new();
    for Endpoint { method, path, serve, .. } in endpoints {
        let on = MethodFilter::try_from(method).expect("the tables have methods that routers know");
        let others = paths.remove(path).unwrap_or_default();
        paths.insert(path, serve(on, others));
    }
    paths.into_iter().fold(Router::new(), |router, (path, methods)| router.route(path, methods))
}

/// Returns what people are told about the endpoints of a table.
pub(crate) fn described<S>(
    endpoints: Vec<Endpoint<S>>,
) -> impl Iterator<Item = (&'static str, Method, About)> {
    endpoints.into_iter().map(|endpoint| (endpoint.path, endpoint.method, endpoint.about))
}
