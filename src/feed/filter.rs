//! Which items a reader wants.

use super::{FeedItem, FeedKind};

/// Longest pattern in bytes: matching costs pattern times text.
const GLOB_BYTES_MAX: usize = 128;

/// A pattern over type names: `*` stands for any text, `?` for one character.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TypeGlob(String);

/// The text cannot be a pattern.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("must be a pattern of 1 to {GLOB_BYTES_MAX} bytes such as pos.basket.*")]
pub struct InvalidGlob;

impl TypeGlob {
    /// Takes a pattern.
    ///
    /// # Errors
    /// If it is empty or too long.
    pub fn new(pattern: &str) -> Result<Self, InvalidGlob> {
        if pattern.is_empty() || pattern.len() > GLOB_BYTES_MAX {
            return Err(InvalidGlob);
        }
        Ok(Self(pattern.to_owned()))
    }

    /// True if the whole name fits the pattern.
    #[must_use]
    pub fn matches(&self, name: &str) -> bool {
        let (pattern, name) = (self.0.as_bytes(), name.as_bytes());
        let (mut p, mut n) = (0, 0);
        // Where the last `*` stood and how much of the name it has swallowed.
        let mut star: Option<(usize, usize)> = None;
        while n < name.len() {
            match pattern.get(p) {
                Some(b'*') => {
                    star = Some((p, n));
                    p += 1;
                }
                Some(&byte) if byte == b'?' || byte == name[n] => {
                    p += 1;
                    n += 1;
                }
                _ => match star {
                    Some((at, swallowed)) => {
                        star = Some((at, swallowed + 1));
                        p = at + 1;
                        n = swallowed + 1;
                    }
                    None => return false,
                },
            }
        }
        pattern[p..].iter().all(|&byte| byte == b'*')
    }
}

/// What must be true of an item; an empty list lets everything through.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Filter {
    /// Any of these patterns.
    pub types: Vec<TypeGlob>,
    /// Any of these terminals.
    pub terminals: Vec<String>,
    /// Any of these plugins.
    pub plugins: Vec<String>,
    /// Any of these kinds.
    pub kinds: Vec<FeedKind>,
}

impl Filter {
    /// True if a reader with this filter gets the item.
    #[must_use]
    pub fn passes(&self, item: &FeedItem) -> bool {
        let one_of = |list: &[String], value: Option<&str>| {
            list.is_empty() || value.is_some_and(|value| list.iter().any(|known| known == value))
        };
        (self.kinds.is_empty() || self.kinds.contains(&item.kind))
            && (self.types.is_empty() || self.types.iter().any(|glob| glob.matches(item.type_name())))
            && one_of(&self.terminals, item.terminal())
            && one_of(&self.plugins, item.plugin())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patterns_match_whole_names() {
        let matches = |pattern: &str, name: &str| TypeGlob::new(pattern).unwrap().matches(name);
        assert!(matches("pos.basket.*", "pos.basket.started"));
        assert!(!matches("pos.basket.*", "pos.payment.completed"));
        assert!(matches("*completed", "pos.payment.completed"));
        assert!(matches("pos.*.completed", "pos.refund.completed"));
        assert!(matches("*a*b*c", "xxaxxbxxbxxc"));
        assert!(!matches("pos.basket", "pos.basket.started"));
        assert!(matches("log", "log"));
        assert!(matches("*", ""));
        assert!(matches("lo?", "log"));
        assert!(TypeGlob::new("").is_err());
    }

    #[test]
    fn a_hostile_pattern_costs_little() {
        let pattern = TypeGlob::new(&"*a".repeat(GLOB_BYTES_MAX / 2)).unwrap();
        assert!(!pattern.matches(&format!("{}b", "a".repeat(255))));
    }
}
