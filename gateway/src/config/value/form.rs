//! What every reader of a value can do: read it, say what it takes, and write it as TOML.

use toml::de::DeValue;

use crate::diagnostic::Diagnostic;

/// How one kind of value is read, and how the configuration reference describes it.
pub(in crate::config) trait Form<T> {
    /// What the value says.
    fn read(&self, value: &DeValue<'_>) -> Result<T, Diagnostic>;

    /// The type with its bounds or its words: `integer from 1 to 64`.
    fn takes(&self) -> String;

    /// A default as it is written in TOML; `None`: it has no text.
    fn write(&self, value: &T) -> Option<String>;
}

/// A function reads a value, too. What it expects is what it says of a date, which no key takes.
impl<T, F: Fn(&DeValue<'_>) -> Result<T, Diagnostic>> Form<T> for F {
    fn read(&self, value: &DeValue<'_>) -> Result<T, Diagnostic> {
        self(value)
    }

    fn takes(&self) -> String {
        let date = toml::value::Date { year: 1970, month: 1, day: 1 };
        let refused = self(&DeValue::Datetime(toml::value::Datetime { date: Some(date), time: None, offset: None }));
        let message = refused.err().map(|diagnostic| diagnostic.message).unwrap_or_default();
        let expected = message.strip_prefix("expected ").and_then(|rest| rest.split_once(", found "));
        let (article, kind) = expected.and_then(|(kind, _)| kind.split_once(' ')).unwrap_or_default();
        if article.is_empty() { "any value".to_owned() } else { kind.to_owned() }
    }

    fn write(&self, _value: &T) -> Option<String> {
        None
    }
}

/// A function, in words of its own.
pub(in crate::config) struct Described<T, F> {
    takes: String,
    read: F,
    write: Option<fn(&T) -> String>,
}

/// Reads by a function what `takes` describes.
pub(in crate::config) fn described<T, F>(takes: impl Into<String>, read: F) -> Described<T, F>
where
    F: Fn(&DeValue<'_>) -> Result<T, Diagnostic>,
{
    Described { takes: takes.into(), read, write: None }
}

impl<T, F> Described<T, F> {
    /// How a default is written.
    pub(in crate::config) fn written(self, write: fn(&T) -> String) -> Self {
        Self { write: Some(write), ..self }
    }
}

impl<T, F: Fn(&DeValue<'_>) -> Result<T, Diagnostic>> Form<T> for Described<T, F> {
    fn read(&self, value: &DeValue<'_>) -> Result<T, Diagnostic> {
        (self.read)(value)
    }

    fn takes(&self) -> String {
        self.takes.clone()
    }

    fn write(&self, value: &T) -> Option<String> {
        self.write.map(|write| write(value))
    }
}
