//! Reads a chat call's body: the few members that decide the answer, and how many tokens the prompt has.
//! Called once for each call, when its body is whole.

use std::fmt;

use serde::{
    Deserialize, Deserializer,
    de::{self, SeqAccess, Visitor},
};

use super::answer::Refusal;

/// A chat call as far as the demo upstream cares.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct ChatCall {
    pub(super) model: String,
    pub(super) stream: bool,
    pub(super) include_usage: bool,
    pub(super) choices: u64,
    pub(super) max_tokens: Option<u64>,
    pub(super) prompt_tokens: u64,
    /// The tool that must be called.
    pub(super) tool: Option<String>,
}

/// What a body turned out to be.
#[derive(Debug)]
pub(super) enum ChatBody {
    Call(ChatCall),
    /// JSON that names a model, but is no valid call: it has a ledger row.
    Invalid {
        model: String,
        refusal: Refusal,
    },
    /// Not a chat call at all: no row.
    NotAChat(Refusal),
}

impl ChatBody {
    pub(super) fn read(body: &[u8]) -> Self {
        match serde_json::from_slice::<WireCall>(body) {
            Ok(wire) => {
                let model = wire.model.clone();
                match wire.check() {
                    Ok(call) => Self::Call(call),
                    Err(refusal) => Self::Invalid { model, refusal },
                }
            }
            Err(error) => match serde_json::from_slice::<WireModel>(body) {
                Ok(wire) => Self::Invalid {
                    model: wire.model,
                    refusal: Refusal::bad_body(&error),
                },
                Err(_) => Self::NotAChat(Refusal::bad_body(&error)),
            },
        }
    }
}

#[derive(Deserialize)]
struct WireModel {
    model: String,
}

#[derive(Deserialize)]
struct WireCall {
    model: String,
    messages: Vec<WireMessage>,
    stream: Option<bool>,
    stream_options: Option<WireStreamOptions>,
    max_tokens: Option<u64>,
    max_completion_tokens: Option<u64>,
    n: Option<u64>,
    tools: Option<Vec<WireTool>>,
    tool_choice: Option<serde_json::Value>,
}

impl WireCall {
    fn check(self) -> Result<ChatCall, Refusal> {
        let choices = self.n.unwrap_or(1);
        if !(1..=MAX_CHOICES).contains(&choices) {
            return Err(Refusal::invalid("n", "n must lie between 1 and 128"));
        }
        if self.messages.is_empty() {
            return Err(Refusal::invalid("messages", "messages must not be empty"));
        }
        let tool = self.find_tool()?;
        let stream = self.stream.unwrap_or(false);
        if !stream && self.stream_options.is_some() {
            return Err(Refusal::invalid(
                "stream_options",
                "stream_options is only allowed when stream is true",
            ));
        }
        let include_usage = self
            .stream_options
            .and_then(|options| options.include_usage)
            .unwrap_or(false);
        let mut content = Content::default();
        for message in &self.messages {
            content.add(message.content.as_ref());
        }
        Ok(ChatCall {
            model: self.model,
            stream,
            include_usage,
            choices,
            max_tokens: self.max_completion_tokens.or(self.max_tokens),
            prompt_tokens: content.tokens(),
            tool,
        })
    }

    /// The tool that `tool_choice` forces.
    fn find_tool(&self) -> Result<Option<String>, Refusal> {
        let tools = self.tools.as_deref().unwrap_or_default();
        let mut names = tools
            .iter()
            .filter_map(|tool| tool.function.as_ref().map(|function| &function.name));
        match &self.tool_choice {
            Some(serde_json::Value::String(choice)) if choice == "required" => {
                let first = names.next().ok_or_else(|| {
                    Refusal::invalid("tool_choice", "tool_choice is only allowed with tools")
                })?;
                Ok(Some(first.clone()))
            }
            Some(choice) => match choice
                .pointer("/function/name")
                .and_then(|name| name.as_str())
            {
                Some(wanted) => names
                    .find(|name| *name == wanted)
                    .cloned()
                    .map(Some)
                    .ok_or_else(|| {
                        Refusal::invalid(
                            "tool_choice",
                            "tool_choice names a tool that is not in tools",
                        )
                    }),
                None => Ok(None),
            },
            None => Ok(None),
        }
    }
}

#[derive(Deserialize)]
struct WireStreamOptions {
    include_usage: Option<bool>,
}

#[derive(Deserialize)]
struct WireTool {
    function: Option<WireFunction>,
}

#[derive(Deserialize)]
struct WireFunction {
    name: String,
}

#[derive(Deserialize)]
struct WireMessage {
    content: Option<Content>,
}

/// A message's content by size: the text itself is not kept.
#[derive(Debug, Default, PartialEq, Eq)]
struct Content {
    text_bytes: u64,
    images: u64,
}

impl Content {
    fn add(&mut self, other: Option<&Self>) {
        if let Some(other) = other {
            self.text_bytes += other.text_bytes;
            self.images += other.images;
        }
    }

    fn tokens(&self) -> u64 {
        (self.text_bytes / 4).max(1) + TOKENS_PER_IMAGE * self.images
    }
}

impl<'de> Deserialize<'de> for Content {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(ContentVisitor)
    }
}

struct ContentVisitor;

impl<'de> Visitor<'de> for ContentVisitor {
    type Value = Content;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a string or an array of content parts")
    }

    fn visit_str<E: de::Error>(self, text: &str) -> Result<Content, E> {
        Ok(Content {
            text_bytes: text.len() as u64,
            images: 0,
        })
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut parts: A) -> Result<Content, A::Error> {
        let mut content = Content::default();
        while let Some(part) = parts.next_element::<WirePart>()? {
            content.add(part.text.as_ref());
            content.images += u64::from(part.kind == "image_url");
        }
        Ok(content)
    }
}

#[derive(Deserialize)]
struct WirePart {
    #[serde(rename = "type")]
    kind: String,
    text: Option<Content>,
}

const MAX_CHOICES: u64 = 128;
const TOKENS_PER_IMAGE: u64 = 85;

#[cfg(test)]
mod tests {
    use super::*;

    fn call(body: &serde_json::Value) -> ChatCall {
        match ChatBody::read(body.to_string().as_bytes()) {
            ChatBody::Call(call) => call,
            ChatBody::Invalid { refusal, .. } | ChatBody::NotAChat(refusal) => {
                panic!("{refusal:?}")
            }
        }
    }

    fn prompt_tokens(content: &serde_json::Value) -> u64 {
        call(&serde_json::json!({"model": "m", "messages": [{"role": "user", "content": content}]}))
            .prompt_tokens
    }

    #[test]
    fn prompt_tokens_are_a_quarter_of_the_decoded_bytes_and_85_an_image() {
        use serde_json::json;
        assert_eq!(prompt_tokens(&json!("")), 1);
        assert_eq!(prompt_tokens(&json!(null)), 1);
        assert_eq!(prompt_tokens(&json!("abcdefg")), 1);
        assert_eq!(prompt_tokens(&json!("abcdefgh")), 2);
        assert_eq!(prompt_tokens(&json!("\n\n\n\n\"\"\"\"")), 2);
        assert_eq!(prompt_tokens(&json!("ééééé")), 2);
        let image =
            json!({"type": "image_url", "image_url": {"url": "data:image/png;base64,AAAA"}});
        assert_eq!(prompt_tokens(&json!([image])), 86);
        assert_eq!(
            prompt_tokens(&json!([{"type": "text", "text": "abcdefgh"}, image, image])),
            172
        );
        let two = json!({"model": "m", "messages": [{"role": "system", "content": "abc"}, {"role": "user", "content": "abcde"}]});
        assert_eq!(call(&two).prompt_tokens, 2);
    }

    #[test]
    fn the_newer_name_of_the_token_limit_wins() {
        let messages = serde_json::json!([{"role": "user", "content": "x"}]);
        let both = serde_json::json!({"model": "m", "messages": messages, "max_tokens": 9, "max_completion_tokens": 4, "n": 3});
        assert_eq!((call(&both).max_tokens, call(&both).choices), (Some(4), 3));
        let old = serde_json::json!({"model": "m", "messages": messages, "max_tokens": 9, "max_completion_tokens": null, "n": null});
        assert_eq!((call(&old).max_tokens, call(&old).choices), (Some(9), 1));
    }

    #[test]
    fn a_tool_is_called_only_when_it_must_be() {
        let tools = serde_json::json!([
            {"type": "function", "function": {"name": "first", "parameters": {}}},
            {"type": "function", "function": {"name": "second"}}
        ]);
        let with = |choice: serde_json::Value| {
            let body = serde_json::json!({"model": "m", "messages": [{"role": "user", "content": "x"}], "tools": tools, "tool_choice": choice});
            ChatBody::read(body.to_string().as_bytes())
        };
        let tool = |choice| match with(choice) {
            ChatBody::Call(call) => call.tool,
            ChatBody::Invalid { refusal, .. } | ChatBody::NotAChat(refusal) => {
                panic!("{refusal:?}")
            }
        };
        assert_eq!(tool("auto".into()), None);
        assert_eq!(tool("none".into()), None);
        assert_eq!(tool("required".into()).as_deref(), Some("first"));
        assert_eq!(
            tool(serde_json::json!({"type": "function", "function": {"name": "second"}}))
                .as_deref(),
            Some("second")
        );
        let missing = with(serde_json::json!({"type": "function", "function": {"name": "third"}}));
        assert!(matches!(missing, ChatBody::Invalid { refusal, .. } if refusal.status == 400));
    }

    #[test]
    fn what_is_no_call_is_refused_and_told_apart() {
        for body in [
            "",
            "{",
            "[]",
            "null",
            "{}",
            "{\"model\":1}",
            "{\"messages\":[]}",
            "\u{0}",
            "{\"model\":\"m\",}",
        ] {
            assert!(
                matches!(ChatBody::read(body.as_bytes()), ChatBody::NotAChat(refusal) if refusal.status == 400),
                "{body}"
            );
        }
        for body in [
            r#"{"model":"m"}"#,
            r#"{"model":"m","messages":[]}"#,
            r#"{"model":"m","messages":"x"}"#,
            r#"{"model":"m","messages":[{"content":1}]}"#,
            r#"{"model":"m","messages":[{"content":"x"}],"n":0}"#,
            r#"{"model":"m","messages":[{"content":"x"}],"n":129}"#,
            r#"{"model":"m","messages":[{"content":"x"}],"max_tokens":-1}"#,
            r#"{"model":"m","messages":[{"content":"x"}],"max_tokens":1.5}"#,
            r#"{"model":"m","messages":[{"content":"x"}],"stream":"yes"}"#,
            r#"{"model":"m","messages":[{"content":"x"}],"stream_options":{"include_usage":true}}"#,
            r#"{"model":"m","messages":[{"content":"x"}],"tool_choice":"required"}"#,
        ] {
            assert!(
                matches!(ChatBody::read(body.as_bytes()), ChatBody::Invalid { refusal, .. } if refusal.status == 400),
                "{body}"
            );
        }
    }
}
