//! The cookie with the session key of a browser. Browsers send it on their own, so it counts only where no other site can
//! have caused the request.

use crate::codes::Code;
use axum::http::{HeaderMap, HeaderName, HeaderValue, Method, header};
use off_kit::http::Problem;

/// With this prefix browsers accept it only for this host, and only with `Secure`.
const NAME: &str = "__Host-off-session";

const FETCH_SITE: HeaderName = HeaderName::from_static("sec-fetch-site");

/// The session key in the cookie of a request.
pub(crate) fn session_key(headers: &HeaderMap) -> Option<&str> {
    let cookies = headers.get_all(header::COOKIE).iter().filter_map(|value| value.to_str().ok());
    let mut cookies = cookies.flat_map(|value| value.split(';')).filter_map(|cookie| cookie.trim().split_once('='));
    cookies.find(|(name, value)| *name == NAME && !value.is_empty()).map(|(_, value)| value)
}

/// Refuses a request that has an effect unless a page of this origin made it: the protection against cross-site request
/// forgery. Browsers that do not send `Sec-Fetch-Site` send `Origin` with each such request.
pub(crate) fn check_origin(method: &Method, headers: &HeaderMap) -> Result<(), Problem> {
    if method.is_safe() {
        return Ok(());
    }
    let is_own = match (headers.get(FETCH_SITE), headers.get(header::ORIGIN), headers.get(header::HOST)) {
        (Some(site), _, _) => site == "same-origin",
        (None, Some(origin), Some(host)) => {
            let host_of = |scheme: &[u8]| origin.as_bytes().strip_prefix(scheme);
            host_of(b"https://").or_else(|| host_of(b"http://")) == Some(host.as_bytes())
        }
        _ => false,
    };
    let detail = "with the cookie of a browser, only a page of this address may do this";
    if is_own { Ok(()) } else { Err(Problem::new(Code::CrossSite, detail)) }
}

/// `Set-Cookie` with a session key, for `seconds`.
pub(crate) fn set(key: &str, seconds: i64) -> Option<HeaderValue> {
    let cookie = format!("{NAME}={key}; Max-Age={seconds}; HttpOnly; Secure; SameSite=Lax; Path=/");
    let mut cookie = HeaderValue::try_from(cookie).ok()?;
    cookie.set_sensitive(true);
    Some(cookie)
}

/// `Set-Cookie` that removes the cookie.
pub(crate) fn removed() -> HeaderValue {
    HeaderValue::from_static("__Host-off-session=; Max-Age=0; HttpOnly; Secure; SameSite=Lax; Path=/")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(list: &[(&'static str, &'static str)]) -> HeaderMap {
        let parse = |(name, value): &(&'static str, &'static str)| {
            (HeaderName::from_static(name), HeaderValue::from_static(value))
        };
        list.iter().map(parse).collect()
    }

    #[test]
    fn the_cookie_is_found_among_others() {
        let key = |cookie| session_key(&headers(&[("cookie", cookie)])).map(ToOwned::to_owned);
        assert_eq!(key("theme=dark; __Host-off-session=offk_1; a=b").as_deref(), Some("offk_1"));
        for other in ["", "theme=dark", "off-session=offk_1", "__Host-off-session=", "__host-off-session=offk_1"] {
            assert_eq!(key(other), None, "{other}");
        }
    }

    #[test]
    fn only_a_page_of_the_same_origin_may_cause_an_effect() {
        let post = |list: &[_]| check_origin(&Method::POST, &headers(list)).is_ok();
        assert!(post(&[("sec-fetch-site", "same-origin"), ("origin", "null")]));
        assert!(post(&[("origin", "https://off.example.org"), ("host", "off.example.org")]));
        assert!(post(&[("origin", "http://localhost:8080"), ("host", "localhost:8080")]));
        for wrong in [
            &[] as &[_],
            &[("host", "localhost:8080")],
            &[("sec-fetch-site", "cross-site"), ("origin", "http://localhost:8080"), ("host", "localhost:8080")],
            &[("sec-fetch-site", "same-site")],
            &[("sec-fetch-site", "none")],
            &[("origin", "http://localhost:3000"), ("host", "localhost:8080")],
            &[("origin", "null"), ("host", "localhost:8080")],
            &[("origin", "ftp://localhost:8080"), ("host", "localhost:8080")],
        ] {
            assert!(!post(wrong), "{wrong:?}");
        }
        assert!(check_origin(&Method::GET, &headers(&[("sec-fetch-site", "cross-site")])).is_ok());
    }
}
