//! This program, as it is put into the containers of compiles: a builder image has none of the libraries that a
//! dynamically linked one would need, so only a static one will do.

use std::fs::File;
use std::io::{self, Read as _, Seek as _, SeekFrom};
use std::path::Path;

/// What is wrong with the program at `path`, if anything.
pub(super) fn check(path: &Path) -> Result<(), String> {
    match interpreter(path) {
        Ok(None) => Ok(()),
        Ok(Some(kind)) => Err(format!(
            "this program, {}, is linked dynamically ({kind}) and cannot run in a builder's image: use the static one, as \
             the release and `make build` have it",
            path.display()
        )),
        Err(error) => Err(format!(
            "this program, {}, cannot be read: {error}",
            path.display()
        )),
    }
}

/// The ELF segment that names a dynamic loader, where there is one.
fn interpreter(path: &Path) -> io::Result<Option<&'static str>> {
    const PT_INTERP: u32 = 3;
    let broken = || io::Error::new(io::ErrorKind::InvalidData, "not a 64-bit ELF program");
    let mut file = File::open(path)?;
    let mut header = [0_u8; 64];
    file.read_exact(&mut header).map_err(|_| broken())?;
    // Magic, 64 bits, little endian: all that this is built for.
    if header[..6] != *b"\x7fELF\x02\x01" {
        return Err(broken());
    }
    let offset = u64::from_le_bytes(header[32..40].try_into().expect("eight bytes"));
    let size = u16::from_le_bytes(header[54..56].try_into().expect("two bytes"));
    let count = u16::from_le_bytes(header[56..58].try_into().expect("two bytes"));
    if size < 4 {
        return Err(broken());
    }
    file.seek(SeekFrom::Start(offset))?;
    let mut table = vec![0; usize::from(size) * usize::from(count)];
    file.read_exact(&mut table).map_err(|_| broken())?;
    let is_interpreter = |entry: &[u8]| entry[..4] == PT_INTERP.to_le_bytes();
    let found = table.chunks_exact(usize::from(size)).any(is_interpreter);
    Ok(found.then_some("PT_INTERP"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_program_of_the_machine_is_dynamic_and_a_script_is_none() {
        // Tests are built without crt-static.
        let own = std::env::current_exe().unwrap();
        let reason = check(&own).unwrap_err();
        assert!(reason.contains("linked dynamically"), "{reason}");
        let script = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(script.path(), "#!/bin/sh\n").unwrap();
        let reason = check(script.path()).unwrap_err();
        assert!(reason.contains("not a 64-bit ELF program"), "{reason}");
    }

    #[test]
    fn a_program_without_a_loader_is_static() {
        let mut elf = vec![0_u8; 64 + 56];
        elf[..6].copy_from_slice(b"\x7fELF\x02\x01");
        elf[32] = 64;
        elf[54] = 56;
        elf[56] = 1;
        elf[64] = 1;
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), &elf).unwrap();
        assert_eq!(check(file.path()), Ok(()));
        elf[64] = 3;
        std::fs::write(file.path(), &elf).unwrap();
        assert!(check(file.path()).is_err());
    }
}
