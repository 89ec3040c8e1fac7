//! What the demo upstream says, in OpenAI's shapes: the unary answer, usage, errors, the model list. Pure; called by the routes.

use serde_json::{Value, json};

use super::{
    model::{Behaviour, DemoModel},
    request::ChatCall,
};

/// The parts of an answer that are fixed before its first byte.
#[derive(Debug, Clone)]
pub(super) struct Answer {
    pub(super) id: String,
    pub(super) created: i64,
    pub(super) model: String,
    pub(super) choices: u64,
    /// For one choice.
    pub(super) tokens: u64,
    pub(super) prompt_tokens: u64,
    pub(super) tool: Option<String>,
    pub(super) finish_reason: &'static str,
    pub(super) ending: Ending,
    pub(super) tells_usage: bool,
}

/// How an answer's body ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Ending {
    Whole,
    /// The socket closes before the answer is whole.
    Cut,
}

impl Answer {
    pub(super) fn plan(id: &str, created: i64, call: &ChatCall, behaviour: &Behaviour) -> Self {
        let tokens = call.max_tokens.unwrap_or(u64::MAX).min(behaviour.tokens);
        let finish_reason = match (&call.tool, tokens < behaviour.tokens) {
            (Some(_), _) => "tool_calls",
            (None, true) => "length",
            (None, false) => "stop",
        };
        let (ending, tells_usage) = match behaviour.model {
            DemoModel::Fast
            | DemoModel::Fee
            | DemoModel::Slow
            | DemoModel::Error500
            | DemoModel::Hang => (Ending::Whole, true),
            DemoModel::CutStream => (Ending::Cut, true),
            DemoModel::NoUsage => (Ending::Whole, false),
        };
        Self {
            id: id.to_owned(),
            created,
            model: call.model.clone(),
            choices: call.choices,
            tokens,
            prompt_tokens: call.prompt_tokens,
            tool: call.tool.clone(),
            finish_reason,
            ending,
            tells_usage: tells_usage && (!call.stream || call.include_usage),
        }
    }

    pub(super) fn completion_tokens(&self) -> u64 {
        self.tokens * self.choices
    }

    /// `{"prompt_tokens":…}`.
    pub(super) fn usage(&self) -> String {
        let (prompt, completion) = (self.prompt_tokens, self.completion_tokens());
        let total = prompt + completion;
        format!(
            r#"{{"prompt_tokens":{prompt},"completion_tokens":{completion},"total_tokens":{total},"prompt_tokens_details":{{"cached_tokens":0,"audio_tokens":0}},"completion_tokens_details":{{"reasoning_tokens":0,"audio_tokens":0,"accepted_prediction_tokens":0,"rejected_prediction_tokens":0}}}}"#
        )
    }

    /// The whole unary body.
    pub(super) fn unary(&self) -> Vec<u8> {
        let mut text = format!(
            r#"{{"id":"{}","object":"chat.completion","created":{},"model":{},"choices":["#,
            self.id,
            self.created,
            quote(&self.model)
        );
        let message = self.unary_message();
        let reason = self.finish_reason;
        let rest = format!(r#","message":{message},"logprobs":null,"finish_reason":"{reason}"}}"#);
        for index in 0..self.choices {
            text += if index == 0 {
                r#"{"index":"#
            } else {
                r#",{"index":"#
            };
            text += &index.to_string();
            text += &rest;
        }
        text += "],";
        if self.tells_usage {
            text += r#""usage":"#;
            text += &self.usage();
            text += ",";
        }
        text += r#""service_tier":"default","system_fingerprint":"fp_demo"}"#;
        text.into_bytes()
    }

    fn unary_message(&self) -> String {
        match &self.tool {
            None => {
                let content = TOKEN.repeat(usize::try_from(self.tokens).unwrap_or(usize::MAX));
                format!(
                    r#"{{"role":"assistant","content":"{content}","refusal":null,"annotations":[]}}"#
                )
            }
            Some(tool) => format!(
                r#"{{"role":"assistant","content":null,"refusal":null,"annotations":[],"tool_calls":[{{"id":"{}","type":"function","function":{{"name":{},"arguments":"{{}}"}}}}]}}"#,
                self.tool_call_id(),
                quote(tool)
            ),
        }
    }

    /// Unique like the answer's own id, whose last digits count the calls.
    pub(super) fn tool_call_id(&self) -> String {
        self.id.replacen("chatcmpl-", "call_", 1)
    }
}

/// How many tokens stand whole in the beginning of a unary body.
pub(super) fn count_tokens(beginning: &[u8]) -> u64 {
    beginning
        .windows(TOKEN.len())
        .filter(|window| *window == TOKEN.as_bytes())
        .count() as u64
}

/// A JSON string.
pub(super) fn quote(text: &str) -> String {
    Value::from(text).to_string()
}

/// An answer that is an error, with OpenAI's body.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Refusal {
    pub(super) status: u16,
    kind: &'static str,
    code: Option<&'static str>,
    param: Option<&'static str>,
    message: String,
}

impl Refusal {
    pub(super) fn unauthorised() -> Self {
        let message = "Incorrect API key provided.".to_owned();
        Self::new(
            401,
            "invalid_request_error",
            Some("invalid_api_key"),
            message,
        )
    }

    pub(super) fn unknown_model(slug: &str) -> Self {
        let message = format!("The model `{slug}` does not exist or you do not have access to it.");
        Self::new(
            404,
            "invalid_request_error",
            Some("model_not_found"),
            message,
        )
        .about("model")
    }

    pub(super) fn bad_setting(setting: &str) -> Self {
        let message =
            format!("unknown setting, or a value out of range, in the model: `{setting}`");
        Self::new(
            400,
            "invalid_request_error",
            Some("invalid_model_setting"),
            message,
        )
        .about("model")
    }

    pub(super) fn bad_body(error: &serde_json::Error) -> Self {
        let message =
            format!("We could not parse the body of your request as a chat call: {error}");
        Self::new(
            400,
            "invalid_request_error",
            Some("invalid_request_body"),
            message,
        )
    }

    pub(super) fn invalid(param: &'static str, message: &str) -> Self {
        Self::new(
            400,
            "invalid_request_error",
            Some("invalid_value"),
            message.to_owned(),
        )
        .about(param)
    }

    pub(super) fn no_route(status: u16, method: &http::Method, path: &str) -> Self {
        let message = format!("Invalid URL or method ({method} {path})");
        Self::new(status, "invalid_request_error", None, message)
    }

    pub(super) fn too_large() -> Self {
        let message = "The request is too large.".to_owned();
        Self::new(
            413,
            "invalid_request_error",
            Some("request_too_large"),
            message,
        )
    }

    pub(super) fn internal() -> Self {
        Self::of_status(500)
    }

    /// What a provider would say with this status.
    pub(super) fn of_status(status: u16) -> Self {
        let (kind, code) = match status {
            429 => ("requests", Some("rate_limit_exceeded")),
            401 => ("invalid_request_error", Some("invalid_api_key")),
            403 => (
                "invalid_request_error",
                Some("unsupported_country_region_territory"),
            ),
            300..=499 => ("invalid_request_error", None),
            _ => ("server_error", None),
        };
        let message = format!("The demo upstream was asked to answer with status {status}.");
        Self::new(status, kind, code, message)
    }

    fn new(status: u16, kind: &'static str, code: Option<&'static str>, message: String) -> Self {
        Self {
            status,
            kind,
            code,
            param: None,
            message,
        }
    }

    fn about(mut self, param: &'static str) -> Self {
        self.param = Some(param);
        self
    }

    pub(super) fn body(&self) -> Vec<u8> {
        let error = json!({
            "message": self.message, "type": self.kind, "param": self.param, "code": self.code,
        });
        json!({ "error": error }).to_string().into_bytes()
    }
}

/// The body of `GET /v1/models`.
pub(super) fn list_models() -> Vec<u8> {
    let models: Vec<Value> = DemoModel::ALL
        .into_iter()
        .map(|model| json!({"id": model.name(), "object": "model", "created": 0, "owned_by": "odock"}))
        .collect();
    json!({"object": "list", "data": models})
        .to_string()
        .into_bytes()
}

/// The text of every token.
pub(super) const TOKEN: &str = " a";
