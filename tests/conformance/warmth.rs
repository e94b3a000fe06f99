//! What a compiler keeps is there the next time, in another container: for the runtimes whose tests have a delivery listener.

use peitho::compile::{Compiles, End, Request, Run};
use peitho::names::{Digest, ImageName, Tenant};
use peitho::runtime::Resolution;
use tokio::time::{Duration, timeout};

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

async fn run(compiles: &Compiles, image: &ImageName, script: &str) -> (String, End) {
    let request = Request {
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
    };
    let run = compiles.run(request).await.unwrap();
    let told = timeout(LONG, async { (log(&run).await, end(&run).await) }).await;
    told.expect("a compile takes too long")
}

async fn log(run: &Run) -> String {
    let mut reader = run.log.reader();
    let mut text = Vec::new();
    while let Some(bytes) = reader.next().await.unwrap() {
        text.extend_from_slice(&bytes);
    }
    String::from_utf8(text).unwrap()
}

async fn end(run: &Run) -> End {
    let mut end = run.end.clone();
    let end = end.wait_for(Option::is_some).await.unwrap();
    end.clone().unwrap()
}
