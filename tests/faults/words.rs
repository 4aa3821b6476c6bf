//! What the library logs, by thread: a telling has one thread, and its words are judged.

use std::cell::RefCell;
use std::sync::Once;

thread_local! {
    static WORDS: RefCell<Option<Vec<String>>> = const { RefCell::new(None) };
}

struct ByThread;

impl log::Log for ByThread {
    fn enabled(&self, _: &log::Metadata<'_>) -> bool {
        true
    }

    fn log(&self, record: &log::Record<'_>) {
        WORDS.with_borrow_mut(|words| {
            if let Some(words) = words {
                words.push(record.args().to_string());
            }
        });
    }

    fn flush(&self) {}
}

/// Listens from now on to this thread.
pub fn begin() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        log::set_logger(&ByThread).expect("nobody else listens");
        log::set_max_level(log::LevelFilter::Warn);
    });
    WORDS.set(Some(Vec::new()));
}

/// What was said.
pub fn end() -> Vec<String> {
    WORDS.take().unwrap_or_default()
}
