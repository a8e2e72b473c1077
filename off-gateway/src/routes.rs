//! The paths that the public may reach, each with the service that answers it. All others are 404: health, metrics and
//! documents of the services are not reachable.

use axum::http::Method;

/// A service behind the gateway.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Upstream {
    Auth,
    Users,
    Orders,
    Billing,
    Notifications,
    Operator,
    Generator,
}

impl Upstream {
    pub(crate) const ALL: [Self; 7] =
        [Self::Auth, Self::Users, Self::Orders, Self::Billing, Self::Notifications, Self::Operator, Self::Generator];

    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::Auth => "auth",
            Self::Users => "users",
            Self::Orders => "orders",
            Self::Billing => "billing",
            Self::Notifications => "notifications",
            Self::Operator => "operator",
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

/// Some of the methods of a route.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Methods {
    None,
    Get,
    Post,
    Put,
    All,
}

impl Methods {
    fn contain(self, method: &Method) -> bool {
        match self {
            Self::None => false,
            Self::Get => method == Method::GET,
            Self::Post => method == Method::POST,
            Self::Put => method == Method::PUT,
            Self::All => true,
        }
    }
}

/// What the cookie of a session is worth on a route.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Cookie {
    /// Nothing: a sign-in comes with that of the session before.
    Ignored,
    /// Its person, without the rights of an operator: pages show what is the viewer's own.
    Person,
    /// As much as a token of its person.
    Whole,
}

/// A route.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Route {
    /// The path, with `{}` for any segment. Also the label of its metrics.
    pub(crate) pattern: &'static str,
    /// Who answers.
    pub(crate) to: To,
    extent: Extent,
    /// Those that pass without a token.
    public: Methods,
    /// Those that also count as sign-ins of their address.
    sign_in: Methods,
    /// What the cookie of a session is worth.
    pub(crate) cookie: Cookie,
}

const AUTH: To = To::Service(Upstream::Auth);
const USERS: To = To::Service(Upstream::Users);
const ORDERS: To = To::Service(Upstream::Orders);
const BILLING: To = To::Service(Upstream::Billing);
const NOTIFICATIONS: To = To::Service(Upstream::Notifications);
const OPERATOR: To = To::Service(Upstream::Operator);

const OAUTH: &str = "/oauth";

/// The first that matches counts.
const ROUTES: [Route; 39] = [
    Route { extent: Extent::Exact, ..api("/api/orders/{}/live", To::Gateway) },
    Route { public: Methods::Get, extent: Extent::Exact, ..api("/api/orders/counts", ORDERS) },
    api("/api/orders", ORDERS),
    Route { public: Methods::Get, ..api("/api/products", ORDERS) },
    api("/api/account", BILLING),
    api("/api/letters", NOTIFICATIONS),
    api("/api/operator", OPERATOR),
    // Keys of devices belong to the auth service, everything else of devices to the users service.
    api("/api/devices/{}/keys", AUTH),
    api("/api/devices", USERS),
    // It tells whether an e-mail address is registered, like a registration.
    Route { sign_in: Methods::Put, ..api("/api/users", USERS) },
    sign_in("/api/register", USERS),
    sign_in("/api/login", AUTH),
    sign_in("/api/refresh", AUTH),
    sign_in("/api/logout", AUTH),
    // It verifies a password, like a sign-in.
    Route { sign_in: Methods::All, ..api("/api/password", AUTH) },
    api("/api/sessions", AUTH),
    api("/api/keys", AUTH),
    public(OAUTH, AUTH, Methods::All),
    public("/.well-known", AUTH, Methods::None),
    page("/", Extent::Exact),
    Route { sign_in: Methods::Post, ..page("/sign-in", Extent::Exact) },
    page("/sign-out", Extent::Exact),
    Route { sign_in: Methods::Post, ..page("/register", Extent::Exact) },
    page("/orders", Extent::Below),
    page("/shelves", Extent::Exact),
    page("/devices", Extent::Below),
    page("/catalog", Extent::Below),
    // These tell as much about an account as the requests of the API that they make.
    Route { sign_in: Methods::Post, ..page("/account/profile", Extent::Exact) },
    Route { sign_in: Methods::Post, ..page("/account/password", Extent::Exact) },
    page("/account", Extent::Below),
    // What an operator does there needs their rights.
    Route { cookie: Cookie::Whole, ..page("/operator", Extent::Below) },
    page("/api/live", Extent::Exact),
    Route { extent: Extent::Exact, ..api("/api/me/live", To::Gateway) },
    own("/assets", Extent::Below),
    own("/health", Extent::Exact),
    own("/client/health", Extent::Exact),
    own("/client/health/", Extent::Exact),
    own("/docs", Extent::Below),
    own("/openapi.json", Extent::Exact),
];

const fn api(pattern: &'static str, to: To) -> Route {
    Route { pattern, to, extent: Extent::Below, public: Methods::None, sign_in: Methods::None, cookie: Cookie::Whole }
}

const fn sign_in(pattern: &'static str, to: To) -> Route {
    Route { pattern, to, extent: Extent::Exact, public: Methods::Post, sign_in: Methods::All, cookie: Cookie::Ignored }
}

const fn public(pattern: &'static str, to: To, sign_in: Methods) -> Route {
    Route { pattern, to, extent: Extent::Below, public: Methods::All, sign_in, cookie: Cookie::Ignored }
}

const fn own(pattern: &'static str, extent: Extent) -> Route {
    Route { pattern, to: To::Gateway, extent, public: Methods::All, sign_in: Methods::None, cookie: Cookie::Ignored }
}

/// A page. Who has not signed in may ask for it, too: it says what they may see, or sends them to the sign-in.
const fn page(pattern: &'static str, extent: Extent) -> Route {
    Route { cookie: Cookie::Person, ..own(pattern, extent) }
}

impl Route {
    /// The route of `path`.
    pub(crate) fn of(path: &str) -> Option<&'static Self> {
        ROUTES.iter().find(|route| route.matches(path))
    }

    /// Whether a request with `method` passes without a token.
    pub(crate) fn is_public(&self, method: &Method) -> bool {
        self.public.contain(method)
    }

    /// Whether a request with `method` also counts as a sign-in of its address.
    pub(crate) fn is_sign_in(&self, method: &Method) -> bool {
        self.sign_in.contain(method)
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
            ("/api/orders/0192/cancel", ORDERS),
            ("/api/account", BILLING),
            ("/api/account/deposits", BILLING),
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
        for path in [
            "/api/orders",
            "/api/account",
            "/api/users/1",
            "/api/devices/1/keys",
            "/api/keys",
            "/api/sessions",
            "/api/password",
        ] {
            assert!(!is_public(Method::GET, path) && !is_public(Method::POST, path), "{path}");
        }
    }

    #[test]
    fn what_tells_something_about_an_account_counts_as_a_sign_in() {
        let is_sign_in = |method: Method, path: &str| Route::of(path).is_some_and(|route| route.is_sign_in(&method));
        for path in ["/api/login", "/api/register", "/api/refresh", "/oauth/token"] {
            assert!(is_sign_in(Method::POST, path), "{path}");
        }
        assert!(is_sign_in(Method::PUT, "/api/password") && is_sign_in(Method::PUT, "/api/users/7"));
        assert!(!is_sign_in(Method::GET, "/api/users/7") && !is_sign_in(Method::POST, "/api/orders"));
    }
}
