//! What all pages share: the frame around them, and their headers.

use super::{
    assets,
    failure::{Again, Failure},
    texts,
    viewer::Caller,
};
use askama::Template;
use axum::{
    body::to_bytes,
    extract::Request,
    http::{HeaderMap, HeaderValue, StatusCode, header},
    middleware::Next,
    response::{IntoResponse, Response},
};
use hyper::Response as Answer;
use tracing::error;

/// What browsers may do with a page. Product photos are the only content of another host.
const CONTENT: HeaderValue = HeaderValue::from_static(
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data: https://images.openfoodfacts.org; \
     connect-src 'self'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'",
);

/// The code of a problem without a right that a route needs.
const FORBIDDEN: &str = "forbidden";

/// The media type of a problem.
const PROBLEM: &str = "application/problem+json";

/// Maximum size of a problem, in bytes.
const MAX_PROBLEM_BYTES: usize = 64 * 1024;

/// The parts of the page that the navigation names.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Section {
    System,
    Orders,
    Shelves,
    Catalog,
    Account,
    Operator,
    None,
}

/// The frame around a page.
#[derive(Debug, Clone)]
pub(super) struct Layout {
    section: Section,
    pub(super) is_signed_in: bool,
}

impl Layout {
    pub(super) fn new(caller: &Caller, section: Section) -> Self {
        Self { section, is_signed_in: caller.person().is_some() }
    }

    /// `page` for the link to the section that is shown.
    pub(super) fn current(&self, name: &str) -> &'static str {
        let shown = match self.section {
            Section::System => "system",
            Section::Orders => "orders",
            Section::Shelves => "shelves",
            Section::Catalog => "catalog",
            Section::Account => "account",
            Section::Operator => "operator",
            Section::None => "",
        };
        if shown == name { "page" } else { "false" }
    }

    /// The path of a static file.
    pub(super) fn asset(name: &str) -> &'static str {
        assets::path(name)
    }
}

/// A page.
#[derive(Debug)]
pub(super) struct Html<T>(pub(super) T);

impl<T: Template> IntoResponse for Html<T> {
    fn into_response(self) -> Response {
        match self.0.render() {
            Ok(text) => ([(header::CONTENT_TYPE, "text/html; charset=utf-8")], text).into_response(),
            Err(error) => {
                error!("a page cannot be rendered: {error}");
                Failure::new(StatusCode::INTERNAL_SERVER_ERROR, texts::NOT_SHOWN).into_response()
            }
        }
    }
}

#[derive(Debug, Template)]
#[template(path = "failure.html")]
struct FailurePage {
    layout: Layout,
    title: &'static str,
    detail: String,
    again: Option<Box<Again>>,
}

/// Shows failures as pages, and adds the headers that all pages have.
pub(super) async fn finish(caller: Caller, request: Request, next: Next) -> Response {
    let is_operators = request.uri().path().starts_with("/operator");
    let mut response = next.run(request).await;
    if let Some(mut failure) = response.extensions_mut().remove::<Failure>() {
        if is_operators && failure.code == FORBIDDEN {
            texts::ONLY_OPERATORS.clone_into(&mut failure.detail);
        }
        response = show_failure(Layout::new(&caller, Section::None), failure);
    } else if is_plain_refusal(&response) {
        let failure = Failure::new(response.status(), texts::NOT_UNDERSTOOD);
        response = show_failure(Layout::new(&caller, Section::None), failure);
    }
    describe(response.headers_mut());
    response
}

/// Whether it is a refusal of a path, a query or a body, which the framework answers as plain text.
fn is_plain_refusal(response: &Response) -> bool {
    let is_plain = |kind: &HeaderValue| kind.as_bytes().starts_with(b"text/plain");
    response.status().is_client_error() && response.headers().get(header::CONTENT_TYPE).is_some_and(is_plain)
}

fn show_failure(layout: Layout, failure: Failure) -> Response {
    let detail = if failure.detail.is_empty() { failure.text() } else { failure.detail };
    let title = texts::failure(failure.status);
    (failure.status, Html(FailurePage { layout, title, detail, again: failure.again })).into_response()
}

/// Whether a browser asks for a page, and not a program for an API.
pub(crate) fn is_wanted(path: &str, headers: &HeaderMap) -> bool {
    let accepted = headers.get(header::ACCEPT).and_then(|value| value.to_str().ok()).unwrap_or_default();
    !path.starts_with("/api/") && accepted.contains("text/html")
}

/// Shows a problem as a page. Others stay as they are.
pub(crate) async fn show_problem(response: Response) -> Response {
    let is_problem = response.headers().get(header::CONTENT_TYPE).is_some_and(|kind| kind == PROBLEM);
    if !is_problem {
        return response;
    }
    let (parts, body) = response.into_parts();
    let body = to_bytes(body, MAX_PROBLEM_BYTES).await.unwrap_or_default();
    let problem = Answer::from_parts(parts, body);
    // Who it is may not be known: it was refused before, or because of that.
    let layout = Layout { section: Section::None, is_signed_in: false };
    let mut page = show_failure(layout, Failure::of_answer(&problem));
    let of_body = [header::CONTENT_TYPE, header::CONTENT_LENGTH];
    let kept = problem.headers().iter().filter(|(name, _)| !of_body.contains(name));
    page.headers_mut().extend(kept.map(|(name, value)| (name.clone(), value.clone())));
    describe(page.headers_mut());
    page
}

/// The headers that all pages have.
fn describe(headers: &mut HeaderMap) {
    headers.insert(header::CONTENT_SECURITY_POLICY, CONTENT);
    // Browsers send `Origin: null` with a form if the policy is stricter.
    headers.insert(header::REFERRER_POLICY, HeaderValue::from_static("same-origin"));
    // A page tells who looks at it, and it changes all the time.
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
}
