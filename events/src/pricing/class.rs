//! The token classes that have prices, and how the tokens of a record fall into them: each token into one.

use super::{TokenDetails, TokenUsage};

/// Tokens of one price. The order is that in which a cost is summed up.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Class {
    Input,
    CachedInput,
    CacheWrite,
    CacheWrite1h,
    InputAudio,
    CachedInputAudio,
    InputImage,
    CachedInputImage,
    InputVideo,
    ToolInput,
    Embeddings,
    Output,
    Reasoning,
    OutputAudio,
    OutputImage,
    OutputVideo,
    ToolOutput,
}

impl Class {
    pub(super) const COUNT: usize = 17;

    pub(super) const ALL: [Self; Self::COUNT] = [
        Self::Input,
        Self::CachedInput,
        Self::CacheWrite,
        Self::CacheWrite1h,
        Self::InputAudio,
        Self::CachedInputAudio,
        Self::InputImage,
        Self::CachedInputImage,
        Self::InputVideo,
        Self::ToolInput,
        Self::Embeddings,
        Self::Output,
        Self::Reasoning,
        Self::OutputAudio,
        Self::OutputImage,
        Self::OutputVideo,
        Self::ToolOutput,
    ];

    /// The member that says its price.
    pub(super) fn field(self) -> &'static str {
        match self {
            Self::Input => "input_per_million_nanos",
            Self::CachedInput => "cached_input_per_million_nanos",
            Self::CacheWrite => "cache_write_per_million_nanos",
            Self::CacheWrite1h => "cache_write_1h_per_million_nanos",
            Self::InputAudio => "input_audio_per_million_nanos",
            Self::CachedInputAudio => "cached_input_audio_per_million_nanos",
            Self::InputImage => "input_image_per_million_nanos",
            Self::CachedInputImage => "cached_input_image_per_million_nanos",
            Self::InputVideo => "input_video_per_million_nanos",
            Self::ToolInput => "tool_input_per_million_nanos",
            Self::Embeddings => "embeddings_per_million_nanos",
            Self::Output => "output_per_million_nanos",
            Self::Reasoning => "reasoning_per_million_nanos",
            Self::OutputAudio => "output_audio_per_million_nanos",
            Self::OutputImage => "output_image_per_million_nanos",
            Self::OutputVideo => "output_video_per_million_nanos",
            Self::ToolOutput => "tool_output_per_million_nanos",
        }
    }
}

/// One number for each class.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct PerClass<T>([T; Class::COUNT]);

impl<T: Copy> PerClass<T> {
    pub(super) fn of(&self, class: Class) -> T {
        self.0[class as usize]
    }

    pub(super) fn set(&mut self, class: Class, value: T) {
        self.0[class as usize] = value;
    }
}

/// Every token into the one class it is billed by. Details that claim more than there is get what there is, so the sum over
/// all classes is the total whatever the details say.
///
/// A provider that does not say how much of its media came out of the cache has it counted as not cached.
pub(super) fn split(tokens: &TokenUsage, details: &TokenDetails) -> PerClass<u64> {
    let mut classes = PerClass::default();
    let mut fresh = Left(tokens.input);
    let mut cached = Left(tokens.cached_input);
    let media = [
        (
            details.input_audio,
            details.cached_input_audio,
            Class::InputAudio,
            Class::CachedInputAudio,
        ),
        (
            details.input_image,
            details.cached_input_image,
            Class::InputImage,
            Class::CachedInputImage,
        ),
    ];
    for (all, of_these_cached, class, cached_class) in media {
        let told = cached.take(of_these_cached.min(all));
        let not_cached = fresh.take(all - told);
        let untold = cached.take(all - told - not_cached);
        classes.set(class, not_cached);
        classes.set(cached_class, told + untold);
    }
    classes.set(Class::InputVideo, fresh.take(details.input_video));
    classes.set(Class::ToolInput, fresh.take(details.tool_input));
    classes.set(Class::Embeddings, fresh.take(details.embeddings));
    classes.set(Class::Input, fresh.0);
    classes.set(Class::CachedInput, cached.0);

    let mut written = Left(tokens.cache_write);
    classes.set(Class::CacheWrite1h, written.take(details.cache_write_1h));
    classes.set(Class::CacheWrite, written.0);

    let mut output = Left(tokens.output);
    classes.set(Class::OutputAudio, output.take(details.output_audio));
    classes.set(Class::OutputImage, output.take(details.output_image));
    classes.set(Class::OutputVideo, output.take(details.output_video));
    classes.set(Class::ToolOutput, output.take(details.tool_output));
    classes.set(Class::Output, output.0);
    classes.set(Class::Reasoning, tokens.reasoning);
    classes
}

/// Tokens that are in no class yet.
struct Left(u64);

impl Left {
    fn take(&mut self, wanted: u64) -> u64 {
        let taken = wanted.min(self.0);
        self.0 -= taken;
        taken
    }
}
