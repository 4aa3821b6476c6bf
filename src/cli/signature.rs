//! What an image holds instead, where it is no btrfs image.

use super::Failure;
use crate::Error;
use crate::commit::mkfs::find_signature;
use crate::volume::BlockDevice;

/// The failure to use what is on `device`; where that is of another known kind, it is named.
pub fn explain(error: Error, device: &dyn BlockDevice) -> Failure {
    let mut failure = Failure::from(error);
    if failure.sentence.contains("no btrfs")
        && let Ok(Some(found)) = find_signature(device)
        && found.name != "a btrfs filesystem"
    {
        failure.sentence.push_str(&format!("; it holds {found}"));
    }
    failure
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sync::Arc;
    use crate::volume::{MemoryDevice, Volume};

    #[test]
    fn a_filesystem_of_another_kind_is_named() {
        let device = Arc::new(MemoryDevice::zeroed(1 << 20));
        let refused = || match Volume::open(vec![device.clone()], true) {
            Err(error) => explain(error, &*device).sentence,
            Ok(_) => panic!("nothing is there"),
        };
        assert!(
            refused().starts_with("no btrfs magic")
                && refused().ends_with("this is no btrfs image"),
            "{}",
            refused()
        );
        device.write_at(0, b"XFSB").expect("inside");
        assert!(
            refused().ends_with("it holds an XFS filesystem"),
            "{}",
            refused()
        );
    }
}
