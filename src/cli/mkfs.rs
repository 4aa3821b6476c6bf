//! `btrfuse mkfs IMAGE`: a new filesystem in a file or on a block device.

use super::Failure;
use super::size;
use crate::commit::mkfs::{self, FEATURE_NAMES, Features, Made, MkfsOptions};
use crate::ondisk::{CsumType, Uuid, uuid_words};
use crate::volume::{BlockDevice, FileDevice};
use std::ffi::OsString;
use std::os::unix::ffi::OsStringExt;
use std::path::{Path, PathBuf};

/// Make a new filesystem in a file or on a block device.
///
/// The image is of the kind that a recent mkfs.btrfs makes: metadata twice, data once, a free
/// space tree, a block group tree. An existing file keeps its size; an absent one is made with
/// `--size`.
#[derive(clap::Args, Debug)]
#[command(after_long_help = features_help())]
pub struct Args {
    /// Overwrite a filesystem or another known format that is there.
    #[arg(short, long)]
    force: bool,
    /// A name of at most 255 bytes.
    #[arg(short = 'L', long)]
    label: Option<OsString>,
    /// Bytes of a tree block: 4K, 8K, 16K, 32K or 64K.
    #[arg(short, long, value_name = "SIZE", default_value = "16K", value_parser = size::parse)]
    nodesize: u64,
    /// Unit of data: 4K to 64K, not larger than a tree block.
    #[arg(short, long, value_name = "SIZE", default_value = "4K", value_parser = size::parse)]
    sectorsize: u64,
    /// The checksum: crc32c, xxhash64, sha256 or blake2b.
    #[arg(long, value_name = "TYPE", default_value = "crc32c", value_parser = csum)]
    csum: CsumType,
    /// Features to turn on, or off with a `^` in front, separated by commas.
    #[arg(short = 'O', long, value_name = "FEATURE,^FEATURE")]
    features: Vec<String>,
    /// The filesystem's UUID; random if absent.
    #[arg(short = 'U', long, value_parser = uuid)]
    uuid: Option<Uuid>,
    /// Make the file of this size (K, M, G, T), or give an existing file this size.
    #[arg(long, value_name = "SIZE", value_parser = size::parse)]
    size: Option<u64>,
    /// Report as JSON.
    #[arg(long)]
    json: bool,
    /// The file or block device.
    image: PathBuf,
}

const EXAMPLES: &str = "Examples:\n  \
    btrfuse mkfs --size 10G -L data data.btrfs\n  \
    btrfuse mkfs -f -s 64K -n 64K --csum xxhash64 data.btrfs\n  \
    btrfuse mkfs -O ^block-group-tree /dev/sdb1";

fn features_help() -> String {
    let mut help = String::from("Features (all on unless turned off with ^):\n");
    for (name, words) in FEATURE_NAMES {
        help.push_str(&format!("  {name:18}{words}\n"));
    }
    help.push_str("\nblock-group-tree needs no-holes and free-space-tree.\n\n");
    help.push_str(EXAMPLES);
    help
}

fn csum(name: &str) -> Result<CsumType, String> {
    CsumType::ALL
        .into_iter()
        // mkfs.btrfs leaves out the numbers of two of them.
        .find(|csum| csum.name() == name || csum.name().trim_end_matches("64") == name)
        .or_else(|| (name == "blake2").then_some(CsumType::Blake2b))
        .ok_or_else(|| "take crc32c, xxhash64, sha256 or blake2b".into())
}

/// A UUID as people write it, with or without its dashes.
fn uuid(text: &str) -> Result<Uuid, String> {
    let digits: Vec<u8> = text.bytes().filter(|byte| *byte != b'-').collect();
    let dashes_fit = digits.len() == text.len() || text.len() == 36;
    let mut uuid = Uuid::default();
    for (byte, pair) in uuid.iter_mut().zip(digits.chunks(2)) {
        let pair = std::str::from_utf8(pair).unwrap_or_default();
        *byte = u8::from_str_radix(pair, 16).unwrap_or_default();
    }
    let hex = digits.len() == 32 && digits.iter().all(u8::is_ascii_hexdigit);
    if !hex || !dashes_fit || uuid == Uuid::default() {
        return Err("take 32 hexadecimal digits, as `uuidgen` prints them".into());
    }
    Ok(uuid)
}

/// Runs the command.
pub fn run(args: Args) -> Result<(), Failure> {
    let options = options(&args)?;
    let made = make(&args, &options).map_err(|failure| failure.at(args.image.display()))?;
    report(&args, &options, &made);
    Ok(())
}

fn options(args: &Args) -> Result<MkfsOptions, Failure> {
    let mut features = Features::default();
    for list in &args.features {
        features
            .set(list)
            .map_err(|error| Failure::usage(error.to_string()))?;
    }
    let bytes = |what: &str, value: u64| {
        u32::try_from(value).map_err(|_| Failure::usage(format!("{what} {value} is too large")))
    };
    let options = MkfsOptions {
        label: args
            .label
            .clone()
            .map(OsString::into_vec)
            .unwrap_or_default(),
        nodesize: bytes("node size", args.nodesize)?,
        sectorsize: bytes("sector size", args.sectorsize)?,
        csum: args.csum,
        features,
        force: args.force,
        fsid: args.uuid,
        // Whoever makes an image without root has to be able to write to it.
        owner: (
            rustix::process::geteuid().as_raw(),
            rustix::process::getegid().as_raw(),
        ),
    };
    mkfs::judge_options(&options).map_err(|error| Failure::usage(error.to_string()))?;
    Ok(options)
}

/// Whether a filesystem fits; a size that was typed is the command line's mistake, one that the
/// image has isn't.
fn judge_size(args: &Args, size_bytes: u64, options: &MkfsOptions) -> Result<(), Failure> {
    mkfs::judge(size_bytes, options).map_err(|error| match args.size {
        Some(_) => Failure::usage(error.to_string()),
        None => Failure::from(error),
    })
}

/// Opens or creates the image; nothing is touched before everything has been judged.
fn make(args: &Args, options: &MkfsOptions) -> Result<Made, Failure> {
    let image = &args.image;
    if image.is_dir() {
        return Err(Failure::refused(
            "is a directory: name a file in it to make, or a block device",
        ));
    }
    if !image.exists() {
        let Some(size_bytes) = args.size else {
            return Err(Failure::usage(
                "no such file; say how large to make it, for example with --size 1G",
            ));
        };
        judge_size(args, size_bytes, options)?;
        if let Some(dir) = image.parent().filter(|dir| !dir.as_os_str().is_empty())
            && !dir.is_dir()
        {
            return Err(Failure::failed(format!(
                "there is no directory {}: make it with mkdir, or name one that exists",
                dir.display()
            )));
        }
        let device = FileDevice::create(image, size_bytes)?;
        return mkfs::make(&device, options).map_err(|error| {
            drop(device);
            // Half an image of our own making helps nobody.
            let _ = std::fs::remove_file(image);
            error.into()
        });
    }
    let mut device = FileDevice::open(image, false).map_err(Failure::of_opening)?;
    device.claim()?;
    let size_bytes = args.size.unwrap_or(device.size_bytes());
    judge_size(args, size_bytes, options)?;
    if size_bytes != device.size_bytes() {
        resize(image, &mut device, size_bytes, options)?;
    }
    Ok(mkfs::make(&device, options)?)
}

/// Gives an existing file another size: only after what is in it has been looked at.
fn resize(
    image: &Path,
    device: &mut FileDevice,
    size_bytes: u64,
    options: &MkfsOptions,
) -> Result<(), Failure> {
    if !image.is_file() {
        return Err(Failure::usage(
            "--size is for files; a block device has the size that it has",
        ));
    }
    if !options.force
        && let Some(found) = mkfs::find_signature(device)?
    {
        return Err(Failure::busy(format!(
            "holds {found}: use -f to overwrite it"
        )));
    }
    Ok(device.set_size(size_bytes)?)
}

fn report(args: &Args, options: &MkfsOptions, made: &Made) {
    if args.json {
        let report = serde_json::json!({
            "image": args.image.to_string_lossy(),
            "label": String::from_utf8_lossy(&options.label),
            "fsid": uuid_words(&made.fsid),
            "nodesize": options.nodesize,
            "sectorsize": options.sectorsize,
            "csum": options.csum.name(),
            "total_bytes": made.total_bytes,
            "data_bytes": made.data_bytes,
            "metadata_bytes": made.metadata_bytes,
            "system_bytes": made.system_bytes,
        });
        crate::cli::print::say!("{report:#}");
        return;
    }
    crate::cli::print::say!(
        "{}: a new btrfs filesystem of {}",
        args.image.display(),
        in_words(made.total_bytes)
    );
    if !options.label.is_empty() {
        crate::cli::print::say!("  label      {}", String::from_utf8_lossy(&options.label));
    }
    crate::cli::print::say!("  UUID       {}", uuid_words(&made.fsid));
    crate::cli::print::say!(
        "  tree block {}, sector {}, checksum {}",
        in_words(options.nodesize.into()),
        in_words(options.sectorsize.into()),
        options.csum
    );
    crate::cli::print::say!(
        "  first groups: data {} (single), metadata {} (twice), system {} (twice)",
        in_words(made.data_bytes),
        in_words(made.metadata_bytes),
        in_words(made.system_bytes)
    );
}

fn in_words(bytes: u64) -> String {
    size::in_words(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn uuids_are_read_as_they_are_written() {
        let wanted: Uuid = std::array::from_fn(|at| 0x10 + at as u8);
        assert_eq!(uuid(&uuid_words(&wanted)), Ok(wanted));
        assert_eq!(uuid("101112131415161718191A1B1C1D1E1F"), Ok(wanted));
        for text in [
            "",
            "1011",
            "10111213141516171819-1a1b1c1d1e1f",
            "g0111213-1415-1617-1819-1a1b1c1d1e1f",
            "00000000-0000-0000-0000-000000000000",
        ] {
            assert!(uuid(text).is_err(), "{text}");
        }
    }

    #[test]
    fn checksums_have_the_names_of_mkfs_btrfs_too() {
        for (name, wanted) in [
            ("crc32c", CsumType::Crc32c),
            ("xxhash", CsumType::Xxhash64),
            ("xxhash64", CsumType::Xxhash64),
            ("sha256", CsumType::Sha256),
            ("blake2", CsumType::Blake2b),
        ] {
            assert_eq!(csum(name), Ok(wanted));
        }
        assert!(csum("md5").is_err());
    }
}
