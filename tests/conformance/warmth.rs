//! What a compiler keeps is there the next time, in another container: for the runtimes whose tests have a delivery listener.

use peitho::compile::{Compiles, End, Request};
use peitho::names::{Digest, ImageName, Tenant};
use peitho::runtime::Resolution;
use tokio::time::{Duration, timeout};

use crate::runs::{end, log};

/// Longer than two containers take on a busy machine.
const LONG: Duration = Duration::from_secs(120);

/// One compile in `image`, which has a shell, twice: a failure is never kept, so that it runs again, and it waits for the container of
/// before, and so for what that brings back.
pub(crate) async fn is_there_the_next_time(compiles: &Compiles, image: &ImageName) {
    let script = "cd $XDG_CACHE_HOME && mkdir -p kept && touch kept/file && cat kept/file && echo kept >>kept/file; exit 3";
    for expected in ["", "kept\n", "kept\nkept\n"] {
        let (log, end) = run(compiles, image, script).await;
        assert_eq!(log, expected);
        let exited = End::Exited {
            code: 3,
            output: None,
        };
        assert_eq!(end, exited);
    }
}

/// A compile of the default tenant that runs `script`, with nothing else.
pub(crate) fn request(image: &ImageName, script: &str) -> Request {
    Request {
        tenant: Tenant::default_tenant(),
        image: image.clone(),
        builder: Some(Digest::of(b"a builder")),
        facts: Default::default(),
        manifest: None,
        command: ["sh", "-c", script].map(str::to_owned).into(),
        env: Vec::new(),
        working_dir: None,
        user: None,
        resolution: Resolution::default(),
        input: None,
    }
}

async fn run(compiles: &Compiles, image: &ImageName, script: &str) -> (String, End) {
    let run = compiles.run(request(image, script)).await.unwrap();
    let told = timeout(LONG, async { (log(&run).await, end(&run).await) }).await;
    told.expect("a compile takes too long")
}
