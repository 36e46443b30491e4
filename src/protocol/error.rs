//! The error object of a `res` frame. Source: spec gateway §2, §3 "Refusals", §4.

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

/// `{code, message, details?, retryable?, retryAfterMs?}`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct WireError {
    /// Stable code: `INVALID_REQUEST`, `NOT_PAIRED`, `FORBIDDEN`, `UNAVAILABLE`.
    pub code: String,
    /// A sentence for a person.
    pub message: String,
    /// What a program looks at; `details.code` is the finer code.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub details: Option<Value>,
    /// The same request may work later.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub retryable: Option<bool>,
    /// Milliseconds to wait before that.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub retry_after_ms: Option<u64>,
}

impl WireError {
    /// An error with a code of our choice.
    pub fn new(code: &str, message: impl Into<String>) -> Self {
        Self { code: code.to_owned(), message: message.into(), details: None, retryable: None, retry_after_ms: None }
    }

    /// `INVALID_REQUEST`: the caller must change what it sends.
    pub fn invalid(message: impl Into<String>) -> Self {
        Self::new("INVALID_REQUEST", message)
    }

    /// `UNAVAILABLE`: nothing wrong with the request.
    pub fn unavailable(message: impl Into<String>) -> Self {
        Self::new("UNAVAILABLE", message)
    }

    /// The same with `details`.
    pub fn with(mut self, details: Value) -> Self {
        self.details = Some(details);
        self
    }

    /// The same, marked as worth a retry.
    pub fn retryable(mut self) -> Self {
        self.retryable = Some(true);
        self
    }

    /// `FORBIDDEN missing scope`. Source: spec gateway §4.
    pub fn missing_scope(missing: &str, required: &[&str]) -> Self {
        Self::new("FORBIDDEN", format!("missing scope: {missing}"))
            .with(json!({"code": "MISSING_SCOPE", "missingScope": missing, "requiredScopes": required}))
    }

    /// `details.code`, else the code itself.
    pub fn detail_code(&self) -> &str {
        self.details.as_ref().and_then(|details| details.get("code")).and_then(Value::as_str).unwrap_or(&self.code)
    }
}

impl std::fmt::Display for WireError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} ({})", self.message, self.detail_code())
    }
}
