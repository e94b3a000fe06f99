//! `peitho agent install`: puts this program into a volume, from where a container of any image can run it:
//! it is static (design D1, D6).

use std::io;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

/// The file that is written.
const PROGRAM: &str = "peitho";

/// Arguments of `peitho agent install`.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Where to put the program `peitho`
    pub directory: PathBuf,
}

/// Why the program was not copied.
#[derive(Debug, thiserror::Error)]
#[error("copying this program to {path:?}: {source}")]
pub struct Error {
    path: PathBuf,
    source: io::Error,
}

/// Copies the running program to `<directory>/peitho`, executable for all. Whoever sees the file sees all
/// of it, also when the container runs again.
///
/// # Errors
/// When the directory is missing, full or not writable.
pub async fn run(args: Args) -> Result<(), Error> {
    let path = args.directory.join(PROGRAM);
    tokio::task::spawn_blocking(move || copy(&args.directory, &path))
        .await
        .expect("copying a file does not panic")
}

fn copy(directory: &Path, path: &Path) -> Result<(), Error> {
    let copied = || {
        let mut program = std::fs::File::open("/proc/self/exe")?;
        let mut copy = tempfile::NamedTempFile::new_in(directory)?;
        io::copy(&mut program, &mut copy)?;
        copy.as_file()
            .set_permissions(std::fs::Permissions::from_mode(0o755))?;
        // Closed before anybody finds it: a file that is open for writing cannot be executed.
        copy.into_temp_path().persist(path)?;
        Ok(())
    };
    copied().map_err(|source| Error {
        path: path.to_owned(),
        source,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn the_copy_is_this_program_and_runs_again() {
        let volume = tempfile::tempdir().unwrap();
        let directory = volume.path().to_owned();
        for _ in 0..2 {
            run(Args {
                directory: directory.clone(),
            })
            .await
            .unwrap();
        }
        let copy = directory.join("peitho");
        let mode = copy.metadata().unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o755);
        let length = std::env::current_exe().unwrap().metadata().unwrap().len();
        assert_eq!(copy.metadata().unwrap().len(), length);
        assert_eq!(std::fs::read_dir(&directory).unwrap().count(), 1);
    }

    #[tokio::test]
    async fn a_missing_directory_is_named() {
        let directory = PathBuf::from("/no/such/volume");
        let error = run(Args { directory }).await.unwrap_err().to_string();
        assert!(error.contains("/no/such/volume/peitho"), "{error}");
    }
}
