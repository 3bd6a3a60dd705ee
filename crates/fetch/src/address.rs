//! Where a resource lies, where redirects lead, and which part of a URL may be shown.

use reqwest::Url;

use crate::Error;

/// A URL as its user gave it, with whatever secrets it holds.
pub(crate) struct Address(Url);

impl Address {
    /// Reads a URL of `http` or `https`.
    ///
    /// # Errors
    ///
    /// [`Error::Url`], which does not repeat the URL.
    pub(crate) fn parse(text: &str) -> Result<Self, Error> {
        let refuse = |reason: String| Error::Url { reason };
        let mut url = Url::parse(text).map_err(|error| refuse(error.to_string()))?;
        if !matches!(url.scheme(), "http" | "https") {
            return Err(refuse(format!("its scheme is `{}`, not http or https", url.scheme())));
        }
        url.set_fragment(None);
        Ok(Self(url))
    }

    /// Returns the URL to begin with.
    pub(crate) fn url(&self) -> &Url {
        &self.0
    }

    /// Returns where `from` leads with the value of its `Location`.
    ///
    /// The user's name and password go along only where the user sent them: to the same scheme,
    /// host and port. Those in a redirect are dropped, because they are not the user's.
    pub(crate) fn follow(&self, from: &Url, location: &str) -> Result<Url, Error> {
        let refuse = |reason: String| Error::Redirect { url: redact(from), reason };
        let mut to =
            from.join(location).map_err(|error| refuse(format!("to what is no URL ({error})")))?;
        if !matches!(to.scheme(), "http" | "https") {
            return Err(refuse(format!("to the scheme `{}`, not http or https", to.scheme())));
        }
        if from.scheme() == "https" && to.scheme() == "http" {
            return Err(refuse(format!("to {}, which is not encrypted", redact(&to))));
        }
        to.set_fragment(None);
        let (user, password) = if to.origin() == self.0.origin() {
            (self.0.username(), self.0.password())
        } else {
            ("", None)
        };
        to.set_username(user)
            .and_then(|()| to.set_password(password))
            .map_err(|()| refuse("to a URL without a host".to_owned()))?;
        Ok(to)
    }
}

/// Returns what may be shown of a URL: scheme, host, port and path.
pub(crate) fn redact(url: &Url) -> String {
    let port = url.port().map(|port| format!(":{port}")).unwrap_or_default();
    format!("{}://{}{port}{}", url.scheme(), url.host_str().unwrap_or_default(), url.path())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn follow(given: &str, from: &str, location: &str) -> Result<String, String> {
        let from = Url::parse(from).unwrap();
        let followed = Address::parse(given).unwrap().follow(&from, location);
        followed.map(String::from).map_err(|error| error.to_string())
    }

    #[test]
    fn shows_no_more_than_scheme_host_port_and_path() {
        for (url, shown) in [
            ("https://me:pw@h.example:8443/a/b?token=t#f", "https://h.example:8443/a/b"),
            ("http://h.example", "http://h.example/"),
            ("http://[::1]:80/x%20y", "http://[::1]/x%20y"),
        ] {
            assert_eq!(redact(Address::parse(url).unwrap().url()), shown);
        }
    }

    #[test]
    fn refuses_what_is_not_http_without_repeating_it() {
        for (url, reason) in [
            ("ftp://me:secret@h/x", "its scheme is `ftp`, not http or https"),
            ("http://me:secret@:80/x", "empty host"),
            ("secret.img", "relative URL without a base"),
            ("file:///secret", "its scheme is `file`, not http or https"),
        ] {
            let text = Address::parse(url).err().unwrap().to_string();
            assert_eq!(text, format!("the URL cannot be used: {reason}"));
        }
    }

    #[test]
    fn sends_a_password_to_nobody_but_the_one_it_was_given_for() {
        let given = "http://me:p%40w@one.example/x";
        assert_eq!(follow(given, given, "/y").unwrap(), "http://me:p%40w@one.example/y");
        assert_eq!(
            follow(given, "http://two.example/y", "http://one.example/z").unwrap(),
            "http://me:p%40w@one.example/z"
        );
        for other in ["http://two.example/", "https://one.example/", "http://one.example:81/"] {
            assert_eq!(follow(given, given, other).unwrap(), other);
        }
        assert_eq!(follow(given, given, "http://a:b@two.example/").unwrap(), "http://two.example/");
    }

    #[test]
    fn refuses_to_leave_encryption_or_http() {
        let from = "https://me:pw@h.example/x?sig=1";
        assert_eq!(
            follow(from, from, "http://h.example/y?sig=2").unwrap_err(),
            "https://h.example/x redirects to http://h.example/y, which is not encrypted"
        );
        assert!(follow(from, from, "file:///etc/passwd").unwrap_err().contains("scheme `file`"));
        assert!(follow(from, from, "https://[").unwrap_err().contains("no URL"));
        assert_eq!(follow("http://h/", "http://h/", "https://h/").unwrap(), "https://h/");
    }
}
