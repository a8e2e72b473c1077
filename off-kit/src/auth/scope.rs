//! What a token allows.

use std::fmt;

/// A permission that a token carries. A route lists the scopes that may call it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Scope {
    /// A person: their own data.
    Person,
    /// A device: itself.
    Device,
    /// A client that simulates households: people and devices that it registered, and no others.
    Simulate,
    /// An operator: reads all people, devices, shelves and orders, and manages signing keys.
    Operate,
}

impl Scope {
    /// All scopes.
    pub const ALL: [Self; 4] = [Self::Person, Self::Device, Self::Simulate, Self::Operate];

    /// The name in tokens and documents.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Person => "person",
            Self::Device => "device",
            Self::Simulate => "simulate",
            Self::Operate => "operate",
        }
    }

    /// The scope with this name.
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|scope| scope.as_str() == name)
    }

    const fn bit(self) -> u8 {
        1 << self as u8
    }
}

/// A set of scopes.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash)]
pub struct Scopes(u8);

impl Scopes {
    /// The scopes in `text`, separated by spaces. Unknown ones are left out: they allow nothing here.
    pub fn of_known(text: &str) -> Self {
        text.split(' ').filter_map(Scope::from_name).collect()
    }

    /// Whether the set has no scope.
    pub fn is_empty(self) -> bool {
        self.0 == 0
    }

    /// Whether `scope` is in the set.
    pub fn contains(self, scope: Scope) -> bool {
        self.0 & scope.bit() != 0
    }

    /// The scopes that are in both sets.
    #[must_use]
    pub fn intersection(self, other: Self) -> Self {
        Self(self.0 & other.0)
    }

    /// The scopes, each once.
    pub fn iter(self) -> impl Iterator<Item = Scope> {
        Scope::ALL.into_iter().filter(move |scope| self.contains(*scope))
    }
}

impl FromIterator<Scope> for Scopes {
    fn from_iter<I: IntoIterator<Item = Scope>>(scopes: I) -> Self {
        Self(scopes.into_iter().fold(0, |bits, scope| bits | scope.bit()))
    }
}

/// Separated by spaces, as in the `scope` claim.
impl fmt::Display for Scopes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let names: Vec<&str> = self.iter().map(Scope::as_str).collect();
        f.write_str(&names.join(" "))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn scopes_are_written_and_read() {
        let scopes: Scopes = [Scope::Operate, Scope::Person].into_iter().collect();
        assert_eq!(scopes.to_string(), "person operate");
        assert_eq!(Scopes::of_known("operate person"), scopes);
        assert_eq!(Scopes::of_known("root  person"), [Scope::Person].into_iter().collect());
        assert!(Scopes::of_known("").is_empty() && !scopes.contains(Scope::Device));
    }
}
