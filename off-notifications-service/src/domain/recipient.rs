//! To whom an e-mail may be sent.

use off_kit::text::is_invisible;

/// A person and their e-mail address, as they wrote them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Recipient {
    pub(crate) first_name: String,
    pub(crate) last_name: String,
    pub(crate) email: String,
}

impl Recipient {
    /// The name for the head of an e-mail: one line, without invisible characters.
    pub(crate) fn name(&self) -> String {
        one_line(&format!("{} {}", self.first_name, self.last_name))
    }

    /// The domain of the address, to which no more than some e-mails are sent at a time.
    pub(crate) fn domain(&self) -> &str {
        self.email.rsplit_once('@').map_or("", |(_, domain)| domain)
    }
}

/// `text` on one line: a line separator or a control character could begin a line of its own in a letter or in the head
/// of an e-mail.
pub(crate) fn one_line(text: &str) -> String {
    let is_separator = |c: char| c.is_control() || c.is_whitespace() || is_invisible(c);
    text.split(is_separator).filter(|word| !word.is_empty()).collect::<Vec<_>>().join(" ")
}

/// Names that belong to nobody or are only valid inside of a network: RFC 2606, RFC 6761, RFC 6762, RFC 7686, RFC 9476, and
/// `internal`, which ICANN reserved in 2024.
const RESERVED: [&str; 14] = [
    "example",
    "example.com",
    "example.net",
    "example.org",
    "test",
    "invalid",
    "localhost",
    "local",
    "localdomain",
    "onion",
    "alt",
    "internal",
    "home.arpa",
    "lan",
];

/// Whether off never sends to this domain, whatever is configured. Generated people have addresses in such domains.
pub(crate) fn is_reserved(domain: &str) -> bool {
    let domain = domain.trim_end_matches('.').to_ascii_lowercase();
    let is_below = |name: &str| domain.strip_suffix(name).is_some_and(|rest| rest.is_empty() || rest.ends_with('.'));
    domain.is_empty() || !domain.contains('.') || RESERVED.into_iter().any(is_below)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reserved_domains_get_no_mail() {
        for domain in [
            "example.org",
            "Example.ORG.",
            "mail.example.com",
            "example",
            "a.test",
            "localhost",
            "x.localhost",
            "printer.local",
            "off.internal",
            "intranet",
            "",
        ] {
            assert!(is_reserved(domain), "{domain}");
        }
        for domain in ["example.de", "notexample.org", "test.de", "myexample.com"] {
            assert!(!is_reserved(domain), "{domain}");
        }
    }

    #[test]
    fn a_name_is_one_line() {
        for (written, shown) in [
            ("Ada\r\nBcc: eve@example.org", "Ada Bcc: eve@example.org"),
            ("Ada\u{2028}Bcc: x", "Ada Bcc: x"),
            ("  Ada\u{0}\tLovelace\u{202e} ", "Ada Lovelace"),
        ] {
            assert_eq!(one_line(written), shown);
        }
    }
}
