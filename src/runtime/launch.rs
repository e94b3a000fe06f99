//! A launch of a chaincode container, followed by somebody. Each runtime makes it from where its containers are, with the start
//! or later; `container` hears it to its end. It knows no runtime.

use futures::stream::BoxStream;

use super::{Found, Outcome};

/// What tells a launch from every other one of the same container, as long as this process lives.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LaunchMark(String);

impl LaunchMark {
    /// The mark made of what the runtime has for it.
    pub fn new(text: impl Into<String>) -> Self {
        Self(text.into())
    }
}

/// A launch that is followed.
pub struct Launch {
    /// Which one it is.
    pub mark: LaunchMark,
    /// What there was to see of its container when it was begun to be followed.
    pub begun: Found,
    /// What becomes of it: once that its process runs, where that was seen, and once that it is over, with all that is known
    /// of how. Then nothing. Without an end it could not be followed any further; the log says why.
    pub course: BoxStream<'static, Found>,
}

/// What an order to start a container came to.
pub struct Started {
    /// Whether it launched anything.
    pub outcome: Outcome,
    /// What was launched, or was there already. It is followed since before anybody could be told of the start: whatever
    /// becomes of it is heard, also when the container is removed at once.
    pub launch: Launch,
}
