//! A launch of a chaincode container, followed by somebody. Each runtime makes it from where its containers are; `container`
//! hears it to its end. It knows no runtime.

use futures::stream::BoxStream;

use super::Found;

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
    /// What becomes of it: once that its process runs, where that was seen, and once that it is over, with all that is known
    /// of how. Then nothing. Without an end it could not be followed any further; the log says why.
    pub course: BoxStream<'static, Found>,
}
