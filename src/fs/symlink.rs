//! Reading symbolic links: the target is the inode's only extent, always inline.

use super::attr::FileKind;
use super::filesystem::Filesystem;
use super::node_id::NodeId;
use crate::error::{Error, Result};
use crate::ondisk::{COMPRESS_NONE, FileExtent, Key, kind};

impl Filesystem {
    /// What the link says.
    pub fn readlink(&self, node: NodeId) -> Result<Vec<u8>> {
        let inode = self.inode(node)?;
        if inode.kind != FileKind::Symlink {
            return Err(Error::Invalid("not a symbolic link"));
        }
        let size = inode.meta.lock().size;
        let key = Key::new(inode.objectid, kind::EXTENT_DATA, 0);
        let target =
            self.ctx
                .get_with(&inode.root, &key, |bytes| match FileExtent::parse(bytes) {
                    Some(FileExtent::Inline { head, data })
                        if head.compression == COMPRESS_NONE =>
                    {
                        Some(data.to_vec())
                    }
                    _ => None,
                })?;
        let target = target
            .flatten()
            .filter(|target| target.len() as u64 >= size);
        let Some(mut target) = target else {
            return Err(Error::corrupt(format!(
                "symbolic link {} of tree {} has no readable target",
                inode.objectid, inode.root.objectid
            )));
        };
        target.truncate(size as usize);
        self.touch_atime(&inode);
        Ok(target)
    }
}
