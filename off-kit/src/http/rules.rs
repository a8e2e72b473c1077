//! Who may call a route: the `security` of its OpenAPI operation, enforced. A route without it stops the service at its
//! start.

use super::problem::Problem;
use crate::{
    auth::{Principal, RowAccess, Scope, Scopes, Verifier},
    http::CommonCode,
};
use anyhow::{Context, bail};
use axum::{
    extract::{MatchedPath, Request, State},
    http::{HeaderMap, Method, header, request::Parts},
    middleware::Next,
    response::{IntoResponse, Response},
};
use std::{collections::HashMap, sync::Arc};
use tracing::info;
use utoipa::openapi::{
    OpenApi, PathItem,
    path::Operation,
    security::{Http, HttpAuthScheme, SecurityScheme},
};

/// The name of the security scheme. A requirement like `"token" = ["person"]` asks for a token with that scope.
pub(super) const SCHEME: &str = "token";

/// The security scheme of all documents.
pub(super) fn scheme() -> SecurityScheme {
    let mut bearer = Http::new(HttpAuthScheme::Bearer);
    bearer.bearer_format = Some("JWT".to_owned());
    bearer.description = Some(
        "An access token, from POST /api/login for people and from POST /oauth/token for devices and programs. \
         A device may send its key to the gateway instead, as Basic: ssd-NUMBER and the key. \
         A requirement names a scope that allows the request."
            .to_owned(),
    );
    SecurityScheme::Http(bearer)
}

/// Who may call one method of a route.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Rule {
    /// Whether a request without a token is allowed.
    is_public: bool,
    /// A token needs one of these scopes.
    scopes: Scopes,
}

impl Rule {
    /// The rule that the `security` of an operation declares.
    pub(super) fn of(operation: &Operation) -> anyhow::Result<Self> {
        let security = operation.security.as_ref().filter(|security| !security.is_empty());
        let requirements = serde_json::to_value(security.context("it declares no `security`")?)?;
        let mut rule = Self { is_public: false, scopes: Scopes::default() };
        for requirement in requirements.as_array().into_iter().flatten() {
            let Some(schemes) = requirement.as_object().filter(|schemes| !schemes.is_empty()) else {
                rule.is_public = true;
                continue;
            };
            let names = schemes.get(SCHEME).and_then(|names| names.as_array());
            let [name] = names.filter(|_| schemes.len() == 1).map(Vec::as_slice).unwrap_or_default() else {
                bail!("a requirement of its `security` is not one scope of `{SCHEME}`");
            };
            let scope = name.as_str().and_then(Scope::from_name);
            let scope = scope.with_context(|| format!("its `security` names the unknown scope {name}"))?;
            rule.scopes = rule.scopes.iter().chain([scope]).collect();
        }
        Ok(rule)
    }

    /// Whether some requests need a token.
    pub(super) fn needs_token(self) -> bool {
        !self.is_public
    }
}

/// The rules of all routes of a service.
#[derive(Debug)]
pub(super) struct Rules(HashMap<String, Vec<(Method, Rule)>>);

impl Rules {
    /// The rules that `document` declares.
    pub(super) fn of(document: &OpenApi) -> anyhow::Result<Self> {
        let mut rules = HashMap::new();
        for (path, item) in &document.paths.paths {
            let of_path = methods(item).into_iter().filter_map(|(method, operation)| {
                let operation = operation.as_ref()?;
                Some(Rule::of(operation).map(|rule| (method, rule)))
            });
            let of_path: anyhow::Result<Vec<_>> = of_path.collect();
            rules.insert(path.clone(), of_path.with_context(|| format!("the route {path}"))?);
        }
        Ok(Self(rules))
    }

    /// `None` if the document has no such operation.
    fn find(&self, path: &str, method: &Method) -> Option<Rule> {
        // The router answers HEAD by the handler of GET.
        let method = if method == Method::HEAD { &Method::GET } else { method };
        self.0.get(path)?.iter().find(|(known, _)| known == method).map(|(_, rule)| *rule)
    }
}

fn methods(item: &PathItem) -> [(Method, &Option<Operation>); 8] {
    [
        (Method::GET, &item.get),
        (Method::PUT, &item.put),
        (Method::POST, &item.post),
        (Method::PATCH, &item.patch),
        (Method::DELETE, &item.delete),
        (Method::OPTIONS, &item.options),
        (Method::HEAD, &item.head),
        (Method::TRACE, &item.trace),
    ]
}

/// Enforces the rules.
#[derive(Debug, Clone)]
pub(super) struct Guard {
    pub(super) rules: Arc<Rules>,
    pub(super) verifier: Verifier,
}

/// Passes a request on if the rule of its route allows it, with its [`Principal`] and its [`RowAccess`].
pub(super) async fn enforce_rules(State(guard): State<Guard>, request: Request, next: Next) -> Response {
    let Some(path) = request.extensions().get::<MatchedPath>() else { return next.run(request).await };
    let Some(rule) = guard.rules.find(path.as_str(), request.method()) else {
        return method_not_allowed().into_response();
    };
    let (mut parts, body) = request.into_parts();
    match guard.check(rule, &parts).await {
        Ok(None) => {}
        Ok(Some((principal, access))) => {
            parts.extensions.insert(principal);
            parts.extensions.insert(access);
        }
        Err(problem) => return problem.into_response(),
    }
    next.run(Request::from_parts(parts, body)).await
}

impl Guard {
    async fn check(&self, rule: Rule, request: &Parts) -> Result<Option<(Arc<Principal>, RowAccess)>, Problem> {
        let token = match bearer(&request.headers) {
            Ok(None) if rule.is_public => return Ok(None),
            // A public route without scopes looks at no token, so that an expired one does not prevent a sign-in.
            _ if rule.is_public && rule.scopes.is_empty() => return Ok(None),
            Ok(Some(token)) => token,
            Ok(None) | Err(InvalidAuthorization) => return Err(Problem::unauthenticated()),
        };
        let principal = self.verifier.verify(token).await.map_err(Problem::of_token)?;
        let access = RowAccess::of(&principal, rule.scopes).ok_or_else(|| Problem::forbidden(rule.scopes))?;
        if access == RowAccess::All {
            let (method, path, subject) = (&request.method, request.uri.path(), &principal.subject);
            info!(target: "security", %subject, %method, path, "an operator used {method} {path}");
        }
        Ok(Some((principal, access)))
    }
}

/// An `Authorization` header that has no bearer token, or more than one such header.
struct InvalidAuthorization;

/// The bearer token of a request, RFC 6750 section 2.1.
fn bearer(headers: &HeaderMap) -> Result<Option<&str>, InvalidAuthorization> {
    let mut values = headers.get_all(header::AUTHORIZATION).iter();
    let Some(value) = values.next() else { return Ok(None) };
    if values.next().is_some() {
        return Err(InvalidAuthorization);
    }
    let (scheme, token) = value.to_str().ok().and_then(|text| text.split_once(' ')).ok_or(InvalidAuthorization)?;
    if scheme.eq_ignore_ascii_case("bearer") { Ok(Some(token.trim_start())) } else { Err(InvalidAuthorization) }
}

/// 405.
pub(super) fn method_not_allowed() -> Problem {
    let detail = "this path does not support the method; /docs of the gateway lists the supported ones";
    Problem::new(CommonCode::MethodNotAllowed, detail)
}

#[cfg(test)]
mod tests {
    use super::*;
    use utoipa::openapi::{path::OperationBuilder, security::SecurityRequirement};

    fn rule(requirements: Option<Vec<SecurityRequirement>>) -> anyhow::Result<Rule> {
        Rule::of(&OperationBuilder::new().securities(requirements).build())
    }

    fn scope(name: &str) -> SecurityRequirement {
        SecurityRequirement::new(SCHEME, [name])
    }

    #[test]
    fn the_security_of_an_operation_is_its_rule() {
        let public = SecurityRequirement::default();
        let scopes = Scopes::of_known("person operate");
        let of_people = rule(Some(vec![scope("person"), scope("operate")])).unwrap();
        assert_eq!(of_people, Rule { is_public: false, scopes });
        let of_all = rule(Some(vec![public.clone()])).unwrap();
        assert_eq!(of_all, Rule { is_public: true, scopes: Scopes::default() });
        assert!(rule(Some(vec![public, scope("simulate")])).unwrap().is_public);
    }

    #[test]
    fn a_missing_or_unknown_rule_is_an_error() {
        for wrong in
            [None, Some(vec![]), Some(vec![scope("root")]), Some(vec![SecurityRequirement::new("key", ["device"])])]
        {
            assert!(rule(wrong).is_err());
        }
        assert!(rule(Some(vec![SecurityRequirement::new(SCHEME, ["person", "operate"])])).is_err());
    }
}
