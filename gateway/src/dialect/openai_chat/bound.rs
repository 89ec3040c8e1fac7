//! How many input tokens a request can be billed for at most, and how many it likely was when the upstream does not
//! say. The reservation uses the first, settlement the second.

/// What was counted in a request.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct InputSize {
    /// At least the length of all text in the body after any normalising, images left out. No tokenizer makes more
    /// tokens than bytes, and JSON's quotes, braces and escapes only add to it.
    pub text_upper: u64,
    /// Decoded bytes of the text in the messages, for [`InputSize::estimated_tokens`].
    pub text_bytes: u64,
    pub messages: u64,
    /// Tools and functions.
    pub tools: u64,
    pub images: u64,
}

/// Tokens that an upstream adds around what the client sent: role markers, tool preambles, its own system lines.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Allowances {
    pub message: u64,
    pub tool: u64,
    pub request: u64,
}

/// An upper bound of the input tokens of one request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct InputBound {
    pub tokens_upper: u64,
}

/// Images are sent to a model that does not say how many tokens one can cost.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the model has no `max_image_tokens`, so its images have no bound in tokens")]
pub struct UnboundedImages;

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
        max_image_tokens: Option<u64>,
    ) -> Result<Self, UnboundedImages> {
        let image_tokens = match (size.images, max_image_tokens) {
            (0, _) => 0,
            (images, Some(each)) => images.saturating_mul(each),
            (_, None) => return Err(UnboundedImages),
        };
        let tokens_upper = [
            size.messages.saturating_mul(allowances.message),
            size.tools.saturating_mul(allowances.tool),
            allowances.request,
            image_tokens,
        ]
        .into_iter()
        .fold(size.text_upper, u64::saturating_add);
        Ok(Self { tokens_upper })
    }
}

impl InputSize {
    /// Four bytes a token, 85 tokens an image, never nothing.
    pub fn estimated_tokens(&self) -> u64 {
        (self.text_bytes / 4)
            .max(1)
            .saturating_add(self.images.saturating_mul(85))
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
        images: 0,
    };

    #[test]
    fn allowances_are_added_for_each_message_tool_and_request() {
        let bound = |allowances| {
            InputBound::of(&SIZE, allowances, None)
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
    fn images_need_a_bound_of_the_model() {
        let size = InputSize { images: 2, ..SIZE };
        let none = Allowances {
            message: 0,
            tool: 0,
            request: 0,
        };
        assert_eq!(InputBound::of(&size, none, None), Err(UnboundedImages));
        assert_eq!(
            InputBound::of(&size, none, Some(100)),
            Ok(InputBound { tokens_upper: 1200 })
        );
        assert_eq!(
            InputBound::of(&size, none, Some(u64::MAX)),
            Ok(InputBound {
                tokens_upper: u64::MAX
            })
        );
    }

    #[test]
    fn estimates_round_down_and_are_never_nothing() {
        assert_eq!(SIZE.estimated_tokens(), 100);
        assert_eq!(InputSize::default().estimated_tokens(), 1);
        assert_eq!(InputSize { images: 2, ..SIZE }.estimated_tokens(), 270);
    }
}
