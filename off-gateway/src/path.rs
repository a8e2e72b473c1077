//! Refuses request targets that gateway and service could read differently. Targets are never normalised: what passes
//! is forwarded as it is.

use crate::codes::Code;
use axum::http::Uri;
use off_kit::http::Problem;

/// Checks the target of a request.
pub(crate) fn check(target: &Uri) -> Result<(), Problem> {
    let path = target.path();
    let query = target.query().unwrap_or_default();
    if is_clear(path) && !query.bytes().any(|byte| !byte.is_ascii_graphic()) {
        return Ok(());
    }
    let detail = "the path has an empty or dot segment, a backslash, or an encoded slash, backslash, dot or NUL";
    Err(Problem::new(Code::InvalidPath, detail))
}

fn is_clear(path: &str) -> bool {
    path.starts_with('/')
        && path.bytes().all(|byte| byte.is_ascii_graphic() && byte != b'\\')
        && !path.contains("//")
        && !path.split('/').any(|segment| segment == "." || segment == "..")
        && encoded(path).all(|byte| byte.is_some_and(|byte| !b"/\\.\0".contains(&byte)))
}

/// The bytes that are percent-encoded in `path`; `None` for an incomplete one.
fn encoded(path: &str) -> impl Iterator<Item = Option<u8>> {
    path.split('%').skip(1).map(|rest| {
        let digits = rest.get(..2).filter(|digits| digits.bytes().all(|digit| digit.is_ascii_hexdigit()))?;
        u8::from_str_radix(digits, 16).ok()
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ordinary_paths_pass() {
        for path in
            ["/", "/api/orders", "/api/orders?limit=5&cursor=a%2Fb", "/docs/", "/.well-known/jwks.json", "/a%20b"]
        {
            assert!(check(&path.parse().unwrap()).is_ok(), "{path}");
        }
    }

    #[test]
    fn a_path_with_two_meanings_is_refused() {
        for path in [
            "//api/orders",
            "/api//orders",
            "/api/orders/",
            "/api/../orders",
            "/api/orders/..",
            "/./api",
            "/api/.",
            "/api/%2e%2e/orders",
            "/api/%2E/orders",
            "/api/users%2f17",
            "/api/users%5C17",
            "/api\\users",
            "/api/users/17%00",
            "/api/users/%",
            "/api/users/%zz",
            "/api/users/%+1",
            "/api/ü",
        ] {
            // A slash at the end is no trick; services answer it with 404.
            let is_refused = path != "/api/orders/";
            let target = Uri::try_from(path.as_bytes());
            assert_eq!(target.is_err() || check(&target.unwrap()).is_err(), is_refused, "{path}");
        }
        assert!(check(&"*".parse().unwrap()).is_err());
    }
}
