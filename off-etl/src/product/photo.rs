//! The URL of the front photo of a product.

use crate::record::Record;
use off_events::Barcode;

/// Domain of Open Food Facts, whose old dumps have URLs without TLS.
const DOMAIN: &str = "openfoodfacts.org";

/// The URL in the record, else a URL built from its barcode and photos, because exports have no URL. The order is that
/// of Open Food Facts: the English photo, then that of the product's language, then any other, then the photo without a
/// language of old records.
pub(super) fn image_url(record: &Record, barcode: &Barcode) -> Option<String> {
    if let Some(url) = record.image_url.text().and_then(|url| address(&url)) {
        return Some(url);
    }
    let photo = |language: &str| {
        let is_language = language.len() <= 3 && language.bytes().all(|byte| byte.is_ascii_lowercase());
        let rev = record.images.front.get(language)?.whole()?;
        is_language.then(|| (format!("front_{language}"), rev))
    };
    let any = || record.images.front.keys().find_map(|language| photo(language));
    let without_language = || Some(("front".to_owned(), record.images.front_without_language.whole()?));
    let (name, rev) = photo("en").or_else(|| photo(&record.lang.text()?)).or_else(any).or_else(without_language)?;
    let code = format!("{:0>13}", barcode.as_str());
    let (a, b, c, rest) = (code.get(..3)?, code.get(3..6)?, code.get(6..9)?, code.get(9..)?);
    Some(format!("https://images.openfoodfacts.org/images/products/{a}/{b}/{c}/{rest}/{name}.{rev}.400.jpg"))
}

/// `url` with `https`; `None` if it is invalid, or is `http` on another domain.
fn address(url: &str) -> Option<String> {
    let url = match url.strip_prefix("http://") {
        Some(rest) => {
            let host = rest.split('/').next()?;
            let is_own = host.strip_suffix(DOMAIN).is_some_and(|before| before.is_empty() || before.ends_with('.'));
            format!("https://{}", is_own.then_some(rest)?)
        }
        None => url.to_owned(),
    };
    let is_address = url.starts_with("https://") && url.len() <= 500 && url.bytes().all(|byte| byte.is_ascii_graphic());
    is_address.then_some(url)
}

#[cfg(test)]
mod tests {
    use super::*;

    const BASE: &str = "https://images.openfoodfacts.org/images/products";

    fn of(code: &str, fields: &str) -> Option<String> {
        let record = Record::read(format!("{{{fields}}}").as_bytes()).unwrap();
        image_url(&record, &code.parse().unwrap())
    }

    #[test]
    fn the_url_of_a_photo_is_built_from_barcode_and_revision() {
        let address = |fields: &str| of("2000000000015", fields);
        let by_rule = |name: &str| Some(format!("{BASE}/200/000/000/0015/{name}.400.jpg"));
        assert_eq!(address(r#""images": {"front_en": {"rev": "3"}}"#), by_rule("front_en.3"));
        let selected = r#""lang": "fr", "images": {"selected": {"front": {"de": {"rev": 7}, "fr": {"rev": "9"}}}}"#;
        assert_eq!(address(selected), by_rule("front_fr.9"));
        assert_eq!(address(r#""images": {"front": {"rev": "4", "imgid": "1"}, "1": {}}"#), by_rule("front.4"));
        assert_eq!(address(r#""images": {"front": {"rev": 4}, "front_de": {"rev": 5}}"#), by_rule("front_de.5"));
        assert_eq!(address(r#""images": {"front_\u0000": {"rev": "3"}}"#), None);
        let short = of("96385074", r#""images": {"front_en": {"rev": "3"}}"#);
        assert_eq!(short, Some(format!("{BASE}/000/009/638/5074/front_en.3.400.jpg")));
    }

    #[test]
    fn only_photo_urls_with_tls_are_accepted() {
        let address = |url: &str| of("2000000000015", &format!(r#""image_url": "{url}""#));
        assert_eq!(address("https://example.org/a.jpg").as_deref(), Some("https://example.org/a.jpg"));
        let old = address("http://static.openfoodfacts.org/images/products/1/front.4.400.jpg");
        assert_eq!(old.as_deref(), Some("https://static.openfoodfacts.org/images/products/1/front.4.400.jpg"));
        for other in ["http://example.org/a.jpg", "http://notopenfoodfacts.org/a.jpg", "https://e.org/\\u0000.jpg", "x"]
        {
            assert_eq!(address(other), None, "{other}");
        }
    }
}
