//! What a chat request gives the model to read: messages, their parts, tools. Counted for the reservation and for the
//! estimate that stands in for a usage the upstream does not report.

use super::{InputSize, Media, RequestError, options::is_given};
use crate::dialect::{
    json_keys::{KnownKey, KnownKeys},
    json_scan::{Cursor, Kind, ScanError},
};

/// Elements of `messages`.
const MAX_MESSAGES: usize = 65_536;

/// Elements of `tools` and of `functions`.
const MAX_TOOLS: usize = 4_096;

const OWN_PRICE_TOOL: &str =
    "a tool that is not a function is run by the provider at a price of its own";

#[derive(Default)]
pub(super) struct Content {
    messages: u64,
    tools: u64,
    media: Media,
    /// Raw bytes of the values that carry media: they are charged as media, not as text.
    media_bytes: u64,
    /// Decoded bytes of all text in the messages.
    text_bytes: u64,
    unbounded: Option<&'static str>,
}

impl Content {
    /// The first reason is the one that is told.
    pub(super) fn mark_unbounded(&mut self, reason: Option<&'static str>) {
        self.unbounded = self.unbounded.or(reason);
    }

    pub(super) fn unbounded(&self) -> Option<&'static str> {
        self.unbounded
    }

    /// All of the body counts as input, whatever member it is in: upstreams read more members than are known here.
    pub(super) fn size(&self, body_upper: u64) -> InputSize {
        InputSize {
            text_upper: body_upper.saturating_sub(self.media_bytes),
            text_bytes: self.text_bytes,
            messages: self.messages,
            tools: self.tools,
            media: self.media,
        }
    }

    pub(super) fn read_messages(&mut self, cursor: &mut Cursor<'_>) -> Result<(), RequestError> {
        if cursor.peek()? != Kind::Array {
            return Err(RequestError::invalid("messages", "an array"));
        }
        cursor.array(|cursor, index| {
            if index == MAX_MESSAGES {
                return Err(RequestError::TooMany {
                    field: "messages",
                    limit: MAX_MESSAGES,
                });
            }
            if cursor.peek()? != Kind::Object {
                return Err(RequestError::invalid(
                    format!("messages[{index}]"),
                    "an object",
                ));
            }
            self.messages += 1;
            self.read_message(cursor)
                .map_err(|error| error.within(|| format!("messages[{index}]")))
        })?;
        Ok(())
    }

    fn read_message(&mut self, cursor: &mut Cursor<'_>) -> Result<(), RequestError> {
        let mut keys = KnownKeys::<MessageKey>::new();
        cursor.object(|cursor, key| {
            match keys.find(&key)? {
                Some(MessageKey::Content) => self.read_content(cursor)?,
                Some(MessageKey::Audio) => {
                    // An earlier answer's audio, by its id.
                    self.media.audios += u64::from(cursor.peek()? != Kind::Null);
                    cursor.skip()?;
                }
                None => cursor.skip()?,
            }
            Ok::<_, RequestError>(())
        })?;
        Ok(())
    }

    fn read_content(&mut self, cursor: &mut Cursor<'_>) -> Result<(), RequestError> {
        match cursor.peek()? {
            Kind::String => self.text_bytes += cursor.string()?.decoded_len as u64,
            Kind::Null => cursor.skip()?,
            Kind::Array => {
                cursor.array(|cursor, index| {
                    self.read_part(cursor)
                        .map_err(|error| error.within(|| format!("content[{index}]")))
                })?;
            }
            Kind::Object | Kind::Number | Kind::True | Kind::False => {
                return Err(RequestError::invalid(
                    "content",
                    "a string or an array of parts",
                ));
            }
        }
        Ok(())
    }

    /// A part is an object, or a bare string where an upstream allows it.
    fn read_part(&mut self, cursor: &mut Cursor<'_>) -> Result<(), RequestError> {
        match cursor.peek()? {
            Kind::String => self.text_bytes += cursor.string()?.decoded_len as u64,
            Kind::Object => {
                let part = Part::read(cursor)?;
                self.add_part(&part);
            }
            Kind::Array | Kind::Number | Kind::True | Kind::False | Kind::Null => {
                return Err(RequestError::invalid("", "a string or an object"));
            }
        }
        Ok(())
    }

    /// A part counts as what it carries, whatever it says it is: some upstreams go by the one, some by the other.
    fn add_part(&mut self, part: &Part) {
        self.text_bytes += part.text_bytes.unwrap_or_default();
        let carried = part.carried;
        self.media.add(carried);
        match part.kind {
            Some(PartKind::Image) if carried.images == 0 => self.media.images += 1,
            Some(PartKind::Image | PartKind::Text) => {}
            None if part.text_bytes.is_some() => {}
            Some(PartKind::Media) | None if !carried.is_empty() => {}
            Some(PartKind::Media | PartKind::Other) | None => {
                self.mark_unbounded(Some("a content part of this type has no bound in tokens"));
            }
        }
        // Media's own bytes are no text, unless the part calls itself one.
        if part.kind != Some(PartKind::Text) {
            self.media_bytes += part.media_bytes;
        }
    }

    pub(super) fn read_tools(&mut self, cursor: &mut Cursor<'_>) -> Result<(), RequestError> {
        self.read_tool_list(cursor, "tools", |content, cursor| {
            let mut keys = KnownKeys::<ToolKey>::new();
            let (mut named, mut function) = (None, false);
            cursor.object(|cursor, key| {
                match keys.find(&key)? {
                    Some(ToolKey::Type) => {
                        let kind = read_type(cursor, |kind| matches!(kind, "function" | "custom"))?;
                        named = Some(kind);
                    }
                    Some(ToolKey::Function) => {
                        function = true;
                        cursor.skip()?;
                    }
                    None => cursor.skip()?,
                }
                Ok::<_, RequestError>(())
            })?;
            let ours = named.unwrap_or(function);
            content.mark_unbounded((!ours).then_some(OWN_PRICE_TOOL));
            Ok(())
        })
    }

    pub(super) fn read_functions(&mut self, cursor: &mut Cursor<'_>) -> Result<(), RequestError> {
        self.read_tool_list(cursor, "functions", |_, cursor| {
            cursor.skip()?;
            Ok(())
        })
    }

    fn read_tool_list(
        &mut self,
        cursor: &mut Cursor<'_>,
        field: &'static str,
        mut read: impl FnMut(&mut Self, &mut Cursor<'_>) -> Result<(), RequestError>,
    ) -> Result<(), RequestError> {
        if !is_given(cursor, Kind::Array, field, "an array")? {
            cursor.skip()?;
            return Ok(());
        }
        cursor.array(|cursor, index| {
            if index == MAX_TOOLS {
                return Err(RequestError::TooMany {
                    field,
                    limit: MAX_TOOLS,
                });
            }
            if cursor.peek()? != Kind::Object {
                return Err(RequestError::invalid(
                    format!("{field}[{index}]"),
                    "an object",
                ));
            }
            self.tools += 1;
            read(self, cursor).map_err(|error| error.within(|| format!("{field}[{index}]")))
        })?;
        Ok(())
    }
}

/// One element of a message's `content`.
#[derive(Default)]
struct Part {
    kind: Option<PartKind>,
    text_bytes: Option<u64>,
    carried: Media,
    media_bytes: u64,
    /// `detail` beside the image, as some upstreams have it.
    low_detail: bool,
    /// The image says nothing about its detail itself.
    bare_image: bool,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum PartKind {
    Text,
    Image,
    /// Audio, video or a file.
    Media,
    Other,
}

impl Part {
    fn read(cursor: &mut Cursor<'_>) -> Result<Self, RequestError> {
        let mut part = Self::default();
        let mut keys = KnownKeys::<PartKey>::new();
        cursor.object(|cursor, key| {
            let Some(key) = keys.find(&key)? else {
                cursor.skip()?;
                return Ok(());
            };
            if key != PartKey::Type && cursor.peek()? == Kind::Null {
                cursor.skip()?;
                return Ok(());
            }
            part.read_member(cursor, key)
        })?;
        if part.bare_image && part.low_detail {
            part.carried.low_detail_images = part.carried.images;
        }
        Ok(part)
    }

    fn read_member(&mut self, cursor: &mut Cursor<'_>, key: PartKey) -> Result<(), RequestError> {
        match key {
            PartKey::Type => self.kind = Some(read_type(cursor, part_kind)?),
            PartKey::Text => self.text_bytes = Some(text_length(cursor)?),
            PartKey::Detail => self.low_detail = is_low(cursor)?,
            PartKey::ImageUrl => {
                self.carried.images += 1;
                self.read_image(cursor)?;
            }
            PartKey::InputAudio | PartKey::AudioUrl => {
                self.carried.audios += 1;
                self.media_bytes += cursor.locate()?.len() as u64;
            }
            PartKey::VideoUrl => {
                self.carried.videos += 1;
                self.media_bytes += cursor.locate()?.len() as u64;
            }
            PartKey::File => {
                self.carried.files += 1;
                self.media_bytes += cursor.locate()?.len() as u64;
            }
        }
        Ok(())
    }

    fn read_image(&mut self, cursor: &mut Cursor<'_>) -> Result<(), RequestError> {
        if cursor.peek()? != Kind::Object {
            self.bare_image = true;
            self.media_bytes += cursor.locate()?.len() as u64;
            return Ok(());
        }
        let start = cursor.position();
        let mut keys = KnownKeys::<ImageKey>::new();
        let mut low = None;
        cursor
            .object(|cursor, key| {
                if keys.find(&key)?.is_some() {
                    low = Some(is_low(cursor)?);
                } else {
                    cursor.skip()?;
                }
                Ok(())
            })
            .map_err(|error: RequestError| error.within(|| "image_url".to_owned()))?;
        self.media_bytes += (cursor.position() - start) as u64;
        self.bare_image = low.is_none();
        self.carried.low_detail_images += u64::from(low == Some(true));
        Ok(())
    }
}

/// Whether the next value is the string `low`.
fn is_low(cursor: &mut Cursor<'_>) -> Result<bool, ScanError> {
    if cursor.peek()? != Kind::String {
        return cursor.skip().map(|()| false);
    }
    let text = cursor.string()?;
    Ok(&*cursor.decode(text) == "low")
}

fn part_kind(kind: &str) -> PartKind {
    match kind {
        "text" | "input_text" | "output_text" | "refusal" | "thinking" | "redacted_thinking"
        | "reasoning" => PartKind::Text,
        "image_url" | "input_image" => PartKind::Image,
        "input_audio" | "audio_url" | "video_url" | "file" | "input_file" => PartKind::Media,
        _ => PartKind::Other,
    }
}

fn read_type<T>(cursor: &mut Cursor<'_>, read: impl Fn(&str) -> T) -> Result<T, RequestError> {
    if cursor.peek()? != Kind::String {
        return Err(RequestError::invalid("type", "a string"));
    }
    let text = cursor.string()?;
    Ok(read(&cursor.decode(text)))
}

fn text_length(cursor: &mut Cursor<'_>) -> Result<u64, ScanError> {
    if cursor.peek()? == Kind::String {
        Ok(cursor.string()?.decoded_len as u64)
    } else {
        cursor.skip().map(|()| 0)
    }
}

#[derive(Clone, Copy)]
enum MessageKey {
    Content,
    Audio,
}

impl KnownKey for MessageKey {
    fn from_name(name: &str) -> Option<Self> {
        match name {
            "content" => Some(Self::Content),
            "audio" => Some(Self::Audio),
            _ => None,
        }
    }

    fn number(self) -> u32 {
        self as u32
    }
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum PartKey {
    Type,
    Text,
    ImageUrl,
    InputAudio,
    AudioUrl,
    VideoUrl,
    File,
    Detail,
}

impl KnownKey for PartKey {
    fn from_name(name: &str) -> Option<Self> {
        match name {
            "type" => Some(Self::Type),
            "text" => Some(Self::Text),
            "image_url" => Some(Self::ImageUrl),
            "input_audio" => Some(Self::InputAudio),
            "audio_url" => Some(Self::AudioUrl),
            "video_url" => Some(Self::VideoUrl),
            "file" => Some(Self::File),
            "detail" => Some(Self::Detail),
            _ => None,
        }
    }

    fn number(self) -> u32 {
        self as u32
    }
}

#[derive(Clone, Copy)]
struct ImageKey;

impl KnownKey for ImageKey {
    fn from_name(name: &str) -> Option<Self> {
        (name == "detail").then_some(Self)
    }

    fn number(self) -> u32 {
        0
    }
}

#[derive(Clone, Copy)]
enum ToolKey {
    Type,
    Function,
}

impl KnownKey for ToolKey {
    fn from_name(name: &str) -> Option<Self> {
        match name {
            "type" => Some(Self::Type),
            "function" => Some(Self::Function),
            _ => None,
        }
    }

    fn number(self) -> u32 {
        self as u32
    }
}
