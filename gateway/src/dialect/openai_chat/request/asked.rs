//! What a chat request asks for that has a price of its own: tiers, media, searches, a longer cache.

use odock_events::pricing::ServiceTier;

/// Which tiers may serve the call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AskedTier {
    /// Whichever the provider's settings say.
    Any,
    Tier(ServiceTier),
    /// One whose name no price has.
    Unknown,
}

/// Media parts in messages.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Media {
    pub images: u64,
    /// Of the images, those sent with `detail` low.
    pub low_detail_images: u64,
    pub audios: u64,
    pub videos: u64,
    pub files: u64,
}

impl Media {
    pub(super) fn add(&mut self, other: Self) {
        self.images += other.images;
        self.low_detail_images += other.low_detail_images;
        self.audios += other.audios;
        self.videos += other.videos;
        self.files += other.files;
    }

    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }
}

/// What an answer may hold beside text.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct OutputMedia {
    pub audio: bool,
    pub image: bool,
    /// Something that nobody here knows.
    pub(super) unknown: bool,
}

/// How much the provider may read for one search.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SearchSize {
    Low,
    Medium,
    High,
}

impl SearchSize {
    /// The kind of piece that such a search is billed as.
    pub fn unit(self) -> &'static str {
        match self {
            Self::Low => "web_search_low",
            Self::Medium => "web_search_medium",
            Self::High => "web_search_high",
        }
    }
}
