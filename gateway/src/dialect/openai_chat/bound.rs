//! How many input tokens a request can be billed for at most, and how many it likely was when the upstream does not
//! say. The reservation uses the first, settlement the second.

use super::request::Media;

/// What was counted in a request.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct InputSize {
    /// At least the length of all text in the body after any normalising, media left out. No tokenizer makes more
    /// tokens than bytes, and JSON's quotes, braces and escapes only add to it.
    pub text_upper: u64,
    /// Decoded bytes of the text in the messages, for [`InputSize::estimated_tokens`].
    pub text_bytes: u64,
    pub messages: u64,
    /// Tools and functions.
    pub tools: u64,
    pub media: Media,
}

/// Tokens that an upstream adds around what the client sent: role markers, tool preambles, its own system lines.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Allowances {
    pub message: u64,
    pub tool: u64,
    pub request: u64,
}

/// What the model's configuration says about media, in tokens.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct MediaCaps {
    /// The most that the model reads at all: media without a cap of its own has this one, all of it together.
    pub context_window: Option<u64>,
    pub image: Option<u64>,
    pub low_detail_image: Option<u64>,
    pub audio: Option<u64>,
    pub file: Option<u64>,
}

/// An upper bound of the input tokens of one request.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct InputBound {
    /// All of them, and how many of them can be of each medium.
    pub tokens_upper: u64,
    pub image: u64,
    pub audio: u64,
    pub video: u64,
}

/// Media is sent to a model that does not say how many tokens it can cost.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum UnboundedMedia {
    #[error(
        "its images have no bound in tokens: set `max_image_tokens` or `context_window` in the model's `config`"
    )]
    Images,
    #[error(
        "its audio has no bound in tokens: set `max_audio_tokens` or `context_window` in the model's `config`"
    )]
    Audio,
    #[error("its video has no bound in tokens: set `context_window` in the model's `config`")]
    Video,
    #[error(
        "its files have no bound in tokens: set `max_file_tokens` or `context_window` in the model's `config`"
    )]
    Files,
    #[error(
        "what a web search finds has no bound in tokens: set `context_window` in the model's `config`"
    )]
    Search,
}

impl Default for Allowances {
    fn default() -> Self {
        Self {
            message: 16,
            tool: 64,
            request: 512,
        }
    }
}

impl InputBound {
    pub fn of(
        size: &InputSize,
        allowances: Allowances,
        caps: MediaCaps,
    ) -> Result<Self, UnboundedMedia> {
        let text = [
            size.messages.saturating_mul(allowances.message),
            size.tools.saturating_mul(allowances.tool),
            allowances.request,
        ]
        .into_iter()
        .fold(size.text_upper, u64::saturating_add);
        if size.media.is_empty() {
            return Ok(Self {
                tokens_upper: text,
                ..Self::default()
            });
        }
        let media = &size.media;
        let low = media.low_detail_images.min(media.images);
        let low_cap = caps.low_detail_image.or(caps.image);
        let images = caps
            .tokens(media.images - low, caps.image)
            .and_then(|high| Some(high.saturating_add(caps.tokens(low, low_cap)?)))
            .ok_or(UnboundedMedia::Images)?;
        let audio = caps.tokens(media.audios, caps.audio);
        let audio = audio.ok_or(UnboundedMedia::Audio)?;
        let video = caps.tokens(media.videos, None);
        let video = video.ok_or(UnboundedMedia::Video)?;
        let files = caps.tokens(media.files, caps.file);
        let files = files.ok_or(UnboundedMedia::Files)?;
        let together = [audio, video, files]
            .into_iter()
            .fold(images, u64::saturating_add);
        // Whatever the parts may cost each, the model reads no more than its window.
        let together = together.min(caps.context_window.unwrap_or(u64::MAX));
        // A file may hold any medium.
        let with_files = |tokens: u64| tokens.saturating_add(files).min(together);
        Ok(Self {
            tokens_upper: text.saturating_add(together),
            image: with_files(images),
            audio: with_files(audio),
            video: with_files(video),
        })
    }

    /// The provider reads what it finds before it answers.
    pub fn with_search(self, caps: MediaCaps) -> Result<Self, UnboundedMedia> {
        let window = caps.context_window.ok_or(UnboundedMedia::Search)?;
        Ok(Self {
            tokens_upper: self.tokens_upper.saturating_add(window),
            ..self
        })
    }
}

impl MediaCaps {
    /// The most tokens of `count` parts, of which each has at most `each`.
    fn tokens(self, count: u64, each: Option<u64>) -> Option<u64> {
        if count == 0 {
            return Some(0);
        }
        each.map(|each| count.saturating_mul(each))
            .or(self.context_window)
    }
}

impl InputSize {
    /// Four bytes a token, 85 tokens an image or what the model says one can cost at most, never nothing.
    pub fn estimated_tokens(&self, most_of_an_image: Option<u64>) -> u64 {
        let image = most_of_an_image.unwrap_or(u64::MAX).min(85);
        (self.text_bytes / 4)
            .max(1)
            .saturating_add(self.media.images.saturating_mul(image))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SIZE: InputSize = InputSize {
        text_upper: 1000,
        text_bytes: 403,
        messages: 3,
        tools: 2,
        media: Media {
            images: 0,
            low_detail_images: 0,
            audios: 0,
            videos: 0,
            files: 0,
        },
    };
    const NONE: Allowances = Allowances {
        message: 0,
        tool: 0,
        request: 0,
    };

    fn with(media: Media, caps: MediaCaps) -> Result<InputBound, UnboundedMedia> {
        InputBound::of(&InputSize { media, ..SIZE }, NONE, caps)
    }

    #[test]
    fn allowances_are_added_for_each_message_tool_and_request() {
        let bound = |allowances| {
            InputBound::of(&SIZE, allowances, MediaCaps::default())
                .unwrap()
                .tokens_upper
        };
        assert_eq!(bound(Allowances::default()), 1000 + 3 * 16 + 2 * 64 + 512);
        assert_eq!(
            bound(Allowances {
                message: 1,
                tool: 10,
                request: 0
            }),
            1000 + 3 + 20
        );
    }

    #[test]
    fn images_cost_at_most_what_the_model_says_of_each() {
        let media = Media {
            images: 3,
            low_detail_images: 1,
            ..Media::default()
        };
        assert_eq!(
            with(media, MediaCaps::default()),
            Err(UnboundedMedia::Images)
        );
        let caps = MediaCaps {
            image: Some(100),
            ..MediaCaps::default()
        };
        let bound = with(media, caps).unwrap();
        assert_eq!((bound.tokens_upper, bound.image), (1300, 300));
        let low = MediaCaps {
            low_detail_image: Some(10),
            ..caps
        };
        let bound = with(media, low).unwrap();
        assert_eq!((bound.tokens_upper, bound.image), (1210, 210));
        let only_low = MediaCaps {
            low_detail_image: Some(10),
            ..MediaCaps::default()
        };
        assert_eq!(with(media, only_low), Err(UnboundedMedia::Images));
        let huge = MediaCaps {
            image: Some(u64::MAX),
            ..caps
        };
        assert_eq!(with(media, huge).unwrap().tokens_upper, u64::MAX);
    }

    #[test]
    fn media_without_a_cap_costs_at_most_the_window_all_of_it_together() {
        let caps = MediaCaps {
            context_window: Some(8_000),
            ..MediaCaps::default()
        };
        for media in [
            Media {
                audios: 2,
                ..Media::default()
            },
            Media {
                videos: 1,
                ..Media::default()
            },
            Media {
                files: 1,
                ..Media::default()
            },
            Media {
                images: 1,
                audios: 1,
                videos: 1,
                files: 1,
                ..Media::default()
            },
        ] {
            assert!(with(media, MediaCaps::default()).is_err(), "{media:?}");
            assert_eq!(with(media, caps).unwrap().tokens_upper, 9_000, "{media:?}");
        }
        let capped = MediaCaps {
            audio: Some(300),
            file: Some(500),
            ..caps
        };
        let media = Media {
            audios: 2,
            files: 1,
            ..Media::default()
        };
        let bound = with(media, capped).unwrap();
        assert_eq!(bound.tokens_upper, 1_000 + 600 + 500);
        // A file may turn out to be audio, a picture or a film.
        assert_eq!((bound.audio, bound.image, bound.video), (1_100, 500, 500));
    }

    #[test]
    fn a_search_adds_the_window() {
        let bound = with(Media::default(), MediaCaps::default()).unwrap();
        assert_eq!(
            bound.with_search(MediaCaps::default()),
            Err(UnboundedMedia::Search)
        );
        let caps = MediaCaps {
            context_window: Some(5_000),
            ..MediaCaps::default()
        };
        assert_eq!(bound.with_search(caps).unwrap().tokens_upper, 6_000);
    }

    #[test]
    fn estimates_round_down_and_are_never_nothing_nor_above_the_bound() {
        assert_eq!(SIZE.estimated_tokens(None), 100);
        assert_eq!(InputSize::default().estimated_tokens(None), 1);
        let media = Media {
            images: 2,
            ..Media::default()
        };
        let size = InputSize { media, ..SIZE };
        assert_eq!(size.estimated_tokens(None), 270);
        assert_eq!(size.estimated_tokens(Some(10)), 120);
    }
}
