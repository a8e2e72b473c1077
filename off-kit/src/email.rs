//! E-mail addresses, by which people sign in.

use crate::text::is_invisible;
use off_events::InvalidValue;
use unicode_normalization::UnicodeNormalization;
use url::Host;

/// An e-mail address in normal form, so that a mailbox can register only once: NFKC, lower case, and the domain in
/// Punycode, as in DNS.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Email(String);

impl Email {
    /// The address in normal form.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Parses an address. Requires a local part of at most 64 bytes, one `@` and a domain with a dot; at most 254 bytes
    /// in total (RFC 5321). Stricter checks are pointless: only a mail shows whether the mailbox exists.
    pub fn parse(text: &str) -> Result<Self, InvalidValue> {
        const INVALID_FORMAT: InvalidValue = InvalidValue("an e-mail address looks like name@example.org");
        if text.chars().any(is_invisible) {
            return Err(InvalidValue("an e-mail address must not contain invisible characters"));
        }
        // Some letters compose with an accent only in lower case.
        let normal: String = text.trim().nfkc().collect::<String>().to_lowercase().nfkc().collect();
        let (name, domain) = normal.split_once('@').ok_or(INVALID_FORMAT)?;
        let Ok(Host::Domain(domain)) = Host::parse(domain) else { return Err(INVALID_FORMAT) };
        let address = format!("{name}@{domain}");
        let is_valid = !name.is_empty()
            && name.len() <= 64
            && address.len() <= 254
            && domain.split('.').count() >= 2
            && domain
                .split('.')
                .all(|label| !label.is_empty() && label.chars().all(|c| c.is_ascii_alphanumeric() || c == '-'))
            && !name.chars().any(|c| c.is_whitespace() || c.is_control() || c == '@');
        if is_valid { Ok(Self(address)) } else { Err(INVALID_FORMAT) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spellings_of_one_mailbox_are_one_address() {
        for (written, one) in [
            (" Ada@Example.ORG ", "ada@example.org"),
            // Full-width letters, and a letter with a combining accent.
            ("ａｄａ@ｅｘａｍｐｌｅ.org", "ada@example.org"),
            ("andre\u{301}@example.org", "andr\u{e9}@example.org"),
            ("J\u{30c}an@example.org", "\u{1f0}an@example.org"),
            ("\u{1f0}an@example.org", "\u{1f0}an@example.org"),
            ("ada@Bücher.example", "ada@xn--bcher-kva.example"),
            ("ada@xn--bcher-kva.example", "ada@xn--bcher-kva.example"),
        ] {
            assert_eq!(Email::parse(written).unwrap().as_str(), one, "{written}");
        }
        for invalid in [
            "",
            "@example.org",
            "ada@",
            "ada@example",
            "a da@example.org",
            "ada@exa mple.org",
            "a@b@c.org",
            "ada@127.0.0.1",
            "ada@example.org.",
            "a\u{200b}da@example.org",
            "ada\u{202e}@example.org",
            "ada@exam\u{ad}ple.org",
        ] {
            assert!(Email::parse(invalid).is_err(), "{invalid} was accepted");
        }
    }
}
