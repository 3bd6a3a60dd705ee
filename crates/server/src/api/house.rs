//! The paths of this house: everything that is asked for besides documents and the bytes of images.

use std::sync::Arc;

use axum::http::Method;

use super::endpoint::{Content, Endpoint, Serve};
use super::{Api, discovery, health, jobs, openapi, tokens};

/// Returns the paths, with what answers there.
pub(super) fn endpoints() -> Vec<Endpoint<Arc<Api>>> {
    let mut endpoints = Vec::new();
    endpoints.extend(health());
    endpoints.extend(discovery());
    endpoints.extend(descriptions());
    endpoints.extend(jobs());
    endpoints.extend(tokens());
    endpoints
}

type Of = Endpoint<Arc<Api>>;

fn get(path: &'static str, summary: &'static str, serve: Serve<Arc<Api>>) -> Of {
    Endpoint::new(Method::GET, path, summary, serve)
}

fn health() -> [Of; 5] {
    let ok = "ok";
    [
        get("/healthz", "Ask whether the server answers", |on, path| path.on(on, health::ok))
            .open()
            .answers(200, ok, Content::Text),
        get("/livez", "Ask whether the server answers", |on, path| path.on(on, health::ok))
            .open()
            .answers(200, ok, Content::Text),
        get("/readyz", "Ask whether the server can keep anything", |on, path| {
            path.on(on, health::ready)
        })
        .open()
        .answers(200, ok, Content::Text)
        .answers(503, "why it cannot", Content::Text),
        get("/version", "Ask which version of Kubernetes' API this is like", |on, path| {
            path.on(on, health::version)
        })
        .answers(200, "the version", Content::Json("Version")),
        get("/metrics", "Read numbers in the text format of Prometheus", |on, path| {
            path.on(on, health::metrics)
        })
        .answers(200, "the numbers", Content::Text),
    ]
}

fn discovery() -> [Of; 7] {
    let json = Content::AnyJson;
    [
        get("/api", "List the versions of the group without a name", |on, path| {
            path.on(on, discovery::core_versions)
        })
        .answers(200, "APIVersions", json),
        get("/apis", "List the groups of kinds", |on, path| path.on(on, discovery::groups))
            .answers(200, "APIGroupList", json),
        get("/apis/{group}", "Read about a group", |on, path| path.on(on, discovery::group))
            .answers(200, "APIGroup", json),
        get("/api/v1", "List the kinds of the group without a name", |on, path| {
            path.on(on, discovery::core_resources)
        })
        .answers(200, "APIResourceList", json),
        get("/apis/{group}/{version}", "List the kinds of a group", |on, path| {
            path.on(on, discovery::resources)
        })
        .answers(200, "APIResourceList", json),
        get("/api/v1/pods", "List pods, of which there are none", |on, path| {
            path.on(on, discovery::no_pods)
        })
        .answers(200, "PodList", json),
        get(
            "/api/v1/namespaces/{namespace}/pods",
            "List the pods of a namespace, of which there are none",
            |on, path| path.on(on, discovery::no_pods),
        )
        .answers(200, "PodList", json),
    ]
}

fn descriptions() -> [Of; 3] {
    let json = Content::AnyJson;
    [
        get("/openapi/v2", "Read a document for older clients", |on, path| {
            path.on(on, openapi::older)
        })
        .answers(200, "OpenAPI 2, with no paths in it", json),
        get("/openapi/v3", "List the documents that describe this API", |on, path| {
            path.on(on, openapi::index)
        })
        .answers(200, "where they are", json),
        get(
            "/openapi/v3/{*path}",
            "Read a document that describes a part of this API",
            |on, path| path.on(on, openapi::document),
        )
        .answers(200, "OpenAPI 3", json),
    ]
}

fn jobs() -> [Of; 3] {
    [
        get("/v1/jobs", "List jobs, or watch them", |on, path| path.on(on, jobs::list))
            .query("watch", "true: whatever is new or changes, one WatchEvent on each line.")
            .answers(
                200,
                "the jobs that the caller may see",
                Content::JsonOrStream("JobList", "WatchEvent"),
            ),
        get("/v1/jobs/{id}", "Read one job", |on, path| path.on(on, jobs::read)).answers(
            200,
            "the job",
            Content::Json("Job"),
        ),
        Endpoint::new(Method::DELETE, "/v1/jobs/{id}", "Stop a job for good", |on, path| {
            path.on(on, jobs::cancel)
        })
        .answers(200, "the job as it has ended", Content::Json("Job"))
        .answers(409, "it has ended already", Content::Json("Status")),
    ]
}

fn tokens() -> [Of; 3] {
    [
        get("/v1/tokens", "List what is known of tokens", |on, path| path.on(on, tokens::list))
            .answers(200, "the tokens, without themselves", Content::Json("TokenList")),
        Endpoint::new(Method::POST, "/v1/tokens", "Make a token", |on, path| {
            path.on(on, tokens::create)
        })
        .takes(Content::Json("NewToken"))
        .answers(201, "the token, this once", Content::Json("MadeToken")),
        Endpoint::new(Method::DELETE, "/v1/tokens/{name}", "Take a token away", |on, path| {
            path.on(on, tokens::delete)
        })
        .answers(200, "it is gone", Content::Json("Status")),
    ]
}
