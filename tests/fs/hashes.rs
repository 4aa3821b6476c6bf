//! Names with one hash, made to measure.

use btrfuse::ondisk::csum::name_hash;

/// Names of 120 bytes with one crc32c: four free bytes at the end can make any sum.
pub fn colliding(count: usize) -> Vec<Vec<u8>> {
    let target = name_hash(&[b'n'; 120]);
    (0u32..)
        .filter_map(|serial| {
            let mut name = vec![b'x'; 116];
            name[..8].copy_from_slice(format!("{serial:08}").as_bytes());
            let tail = tail_for(&name, target)?;
            name.extend(tail);
            (name_hash(&name) == target).then_some(name)
        })
        .take(count)
        .collect()
}

/// The four bytes that lead the hash of `name` to `target`, when all can be in a name. The sum
/// is linear in them: what each bit changes is found by trying, and the rest is elimination.
pub fn tail_for(name: &[u8], target: u32) -> Option<[u8; 4]> {
    let hash = |tail: u32| name_hash(&[name, &tail.to_le_bytes()].concat());
    let zero = hash(0);
    let mut rows: Vec<(u32, u32)> = (0..32)
        .map(|bit| (hash(1 << bit) ^ zero, 1 << bit))
        .collect();
    let mut wanted = target ^ zero;
    let mut tail = 0;
    for bit in (0..32).rev() {
        let at = rows.iter().position(|(sum, _)| sum >> bit & 1 == 1)?;
        let (pivot, inputs) = rows.swap_remove(at);
        for (sum, from) in &mut rows {
            if *sum >> bit & 1 == 1 {
                *sum ^= pivot;
                *from ^= inputs;
            }
        }
        if wanted >> bit & 1 == 1 {
            wanted ^= pivot;
            tail ^= inputs;
        }
    }
    let bytes = tail.to_le_bytes();
    (!bytes.contains(&0) && !bytes.contains(&b'/')).then_some(bytes)
}
