//! Keys that policy reads: found by exact name, refused when doubled or spelt in another case. Dialects call it for
//! each object they read.
//!
//! A gateway that reads `model` while the upstream reads `Model`, or the second of two `model` members, lets a caller
//! have one thing checked and another done. So such a body is refused, whichever of the two we would have taken.

use std::marker::PhantomData;

use super::json_scan::Key;

/// The keys of one kind of object that are read. Names are in lower case.
pub trait KnownKey: Copy {
    fn from_name(name: &str) -> Option<Self>;

    /// Below 64, another for each key.
    fn number(self) -> u32;
}

/// Which of the known keys an object has had so far.
pub struct KnownKeys<K> {
    seen: u64,
    keys: PhantomData<K>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum KeyError {
    Duplicate(String),
    /// The key as given, and the name it could be taken for.
    CaseVariant {
        given: String,
        known: String,
    },
}

impl<K: KnownKey> KnownKeys<K> {
    pub fn new() -> Self {
        Self {
            seen: 0,
            keys: PhantomData,
        }
    }

    /// Which known key this is; `None` for one that nobody reads.
    pub fn find(&mut self, key: &Key<'_>) -> Result<Option<K>, KeyError> {
        let name = key.decode();
        let Some(known) = K::from_name(&name) else {
            return refuse_variant::<K>(&name).map(|()| None);
        };
        let bit = 1_u64 << (known.number() & 63);
        if self.seen & bit != 0 {
            return Err(KeyError::Duplicate(name.into_owned()));
        }
        self.seen |= bit;
        Ok(Some(known))
    }
}

impl<K: KnownKey> Default for KnownKeys<K> {
    fn default() -> Self {
        Self::new()
    }
}

fn refuse_variant<K: KnownKey>(name: &str) -> Result<(), KeyError> {
    if name
        .bytes()
        .all(|byte| byte.is_ascii() && !byte.is_ascii_uppercase())
    {
        return Ok(());
    }
    let known = fold_case(name);
    if K::from_name(&known).is_some() {
        return Err(KeyError::CaseVariant {
            given: name.to_owned(),
            known,
        });
    }
    Ok(())
}

/// Lower case as lenient JSON readers see it: some also take U+017F for `s` and U+212A for `k`.
fn fold_case(name: &str) -> String {
    name.chars()
        .map(|character| match character {
            '\u{17f}' => 's',
            '\u{212a}' => 'k',
            other => other.to_ascii_lowercase(),
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::dialect::json_scan::{Cursor, ScanError, Surrogates};

    #[derive(Clone, Copy, Debug, PartialEq)]
    enum Example {
        Model,
        MaxTokens,
    }

    impl KnownKey for Example {
        fn from_name(name: &str) -> Option<Self> {
            match name {
                "model" => Some(Self::Model),
                "max_tokens" => Some(Self::MaxTokens),
                _ => None,
            }
        }

        fn number(self) -> u32 {
            self as u32
        }
    }

    fn find_all(document: &str) -> Result<Vec<Option<Example>>, KeyError> {
        let mut keys = KnownKeys::<Example>::new();
        let mut found = Vec::new();
        let mut cursor = Cursor::new(document.as_bytes(), Surrogates::Refuse).unwrap();
        cursor
            .object(|cursor, key| {
                found.push(keys.find(&key));
                cursor.skip()
            })
            .map_err(|error: ScanError| panic!("{error}"))
            .unwrap();
        found.into_iter().collect()
    }

    #[test]
    fn exact_and_escaped_names_are_the_same_key() {
        assert_eq!(
            find_all(r#"{"a":1,"m\u006fdel":2,"a":3,"max_tokens":4}"#),
            Ok(vec![
                None,
                Some(Example::Model),
                None,
                Some(Example::MaxTokens)
            ])
        );
        assert_eq!(
            find_all(r#"{"model":1,"\u006dodel":2}"#),
            Err(KeyError::Duplicate("model".to_owned()))
        );
    }

    #[test]
    fn another_case_is_refused_even_alone() {
        for given in [
            "Model",
            "MODEL",
            "max_to\u{212a}ens",
            "max_token\u{17f}",
            "MAX_tokens",
        ] {
            let error = find_all(&format!("{{\"{given}\":1}}")).unwrap_err();
            assert!(
                matches!(&error, KeyError::CaseVariant { given: g, .. } if g == given),
                "{error:?}"
            );
        }
        assert_eq!(
            find_all(r#"{"Temperature":1,"modél":2}"#),
            Ok(vec![None, None])
        );
    }
}
