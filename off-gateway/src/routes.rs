//! The paths that the public may reach, each with the service that answers it. All others are 404: health, metrics and
//! documents of the services are not reachable.

use axum::http::Method;

/// A service behind the gateway.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Upstream {
    Auth,
    Users,
    Orders,
    Notifications,
    Generator,
}

impl Upstream {
    pub(crate) const ALL: [Self; 5] = [Self::Auth, Self::Users, Self::Orders, Self::Notifications, Self::Generator];

    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::Auth => "auth",
            Self::Users => "users",
            Self::Orders => "orders",
            Self::Notifications => "notifications",
            Self::Generator => "generator",
        }
    }
}

/// Who answers a path.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum To {
    /// A service.
    Service(Upstream),
    /// The gateway itself.
    Gateway,
}

/// Which paths a route has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Extent {
    Exact,
    /// The path itself and all below it.
    Below,
}

/// Which requests pass without a token.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Public {
    No,
    /// `POST` alone.
    Post,
    All,
}

/// A route.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Route {
    /// The path, with `{}` for any segment. Also the label of its metrics.
    pub(crate) pattern: &'static str,
    /// Who answers.
    pub(crate) to: To,
    extent: Extent,
    public: Public,
    /// Whether the rate limit of sign-ins applies to requests without a token.
    pub(crate) is_sign_in: bool,
}

const AUTH: To = To::Service(Upstream::Auth);
const USERS: To = To::Service(Upstream::Users);
const ORDERS: To = To::Service(Upstream::Orders);

const OAUTH: &str = "/oauth";

/// The first that matches counts.
const ROUTES: [Route; 19] = [
    api("/api/orders", ORDERS),
    // Keys of devices belong to the auth service, everything else of devices to the users service.
    api("/api/devices/{}/keys", AUTH),
    api("/api/devices", USERS),
    api("/api/users", USERS),
    sign_in("/api/register", USERS),
    sign_in("/api/login", AUTH),
    sign_in("/api/refresh", AUTH),
    sign_in("/api/logout", AUTH),
    // It verifies a password, like a sign-in.
    Route { is_sign_in: true, ..api("/api/password", AUTH) },
    api("/api/sessions", AUTH),
    api("/api/keys", AUTH),
    Route { pattern: OAUTH, to: AUTH, extent: Extent::Below, public: Public::All, is_sign_in: true },
    Route { pattern: "/.well-known", to: AUTH, extent: Extent::Below, public: Public::All, is_sign_in: false },
    own("/", Extent::Exact),
    own("/health", Extent::Exact),
    own("/client/health", Extent::Exact),
    own("/client/health/", Extent::Exact),
    own("/docs", Extent::Below),
    own("/openapi.json", Extent::Exact),
];

const fn api(pattern: &'static str, to: To) -> Route {
    Route { pattern, to, extent: Extent::Below, public: Public::No, is_sign_in: false }
}

const fn sign_in(pattern: &'static str, to: To) -> Route {
    Route { pattern, to, extent: Extent::Exact, public: Public::Post, is_sign_in: true }
}

const fn own(pattern: &'static str, extent: Extent) -> Route {
    Route { pattern, to: To::Gateway, extent, public: Public::All, is_sign_in: false }
}

impl Route {
    /// The route of `path`.
    pub(crate) fn of(path: &str) -> Option<&'static Self> {
        ROUTES.iter().find(|route| route.matches(path))
    }

    /// Whether a request with `method` passes without a token.
    pub(crate) fn is_public(&self, method: &Method) -> bool {
        match self.public {
            Public::No => false,
            Public::Post => method == Method::POST,
            Public::All => true,
        }
    }

    /// Whether the service takes Basic credentials itself.
    pub(crate) fn takes_basic(&self) -> bool {
        self.pattern == OAUTH
    }

    fn matches(&self, path: &str) -> bool {
        let (mut pattern, mut path) = (self.pattern.split('/'), path.split('/'));
        loop {
            match (pattern.next(), path.next()) {
                (None, None) => return true,
                (None, Some(_)) => return self.extent == Extent::Below,
                (Some("{}"), Some(segment)) if !segment.is_empty() => {}
                (Some(expected), Some(segment)) if expected == segment => {}
                _ => return false,
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answerer(path: &str) -> Option<To> {
        Route::of(path).map(|route| route.to)
    }

    #[test]
    fn a_path_leads_to_its_service() {
        for (path, to) in [
            ("/api/orders", ORDERS),
            ("/api/orders/0192", ORDERS),
            ("/api/devices", USERS),
            ("/api/devices/7", USERS),
            ("/api/devices/7/consumptions", USERS),
            ("/api/devices/7/keys", AUTH),
            ("/api/devices/7/keys/abc", AUTH),
            ("/api/users/7", USERS),
            ("/oauth/token", AUTH),
            ("/.well-known/jwks.json", AUTH),
            ("/", To::Gateway),
            ("/docs/swagger-ui.css", To::Gateway),
        ] {
            assert_eq!(answerer(path), Some(to), "{path}");
        }
    }

    #[test]
    fn a_path_of_no_route_leads_nowhere() {
        for path in
            ["/metrics", "/readyz", "/livez", "/api", "/api/ordersx", "/api/login/x", "/docsx", "/health/x", "/x"]
        {
            assert_eq!(answerer(path), None, "{path}");
        }
    }

    #[test]
    fn few_requests_pass_without_a_token() {
        let is_public = |method: Method, path: &str| Route::of(path).is_some_and(|route| route.is_public(&method));
        assert!(is_public(Method::POST, "/api/login") && !is_public(Method::GET, "/api/login"));
        assert!(is_public(Method::POST, "/oauth/token") && is_public(Method::GET, "/docs/"));
        for path in
            ["/api/orders", "/api/users/1", "/api/devices/1/keys", "/api/keys", "/api/sessions", "/api/password"]
        {
            assert!(!is_public(Method::GET, path) && !is_public(Method::POST, path), "{path}");
        }
    }
}
