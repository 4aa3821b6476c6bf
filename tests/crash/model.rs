//! The model of what programs were promised, a process that shares no code with us.

use btrfuse_test_support::Manifest;
use serde_json::{Value, json};
use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::rc::Rc;

/// See `model.py`.
pub struct Model {
    process: Child,
    ask: ChildStdin,
    answers: BufReader<ChildStdout>,
    /// What it was told last.
    history: Option<Rc<Value>>,
}

impl Model {
    pub fn new() -> Self {
        let model = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/crash/model.py");
        let mut process = Command::new("python3")
            .arg(model)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("python3 runs");
        Self {
            ask: process.stdin.take().expect("a pipe"),
            answers: BufReader::new(process.stdout.take().expect("a pipe")),
            process,
            history: None,
        }
    }

    /// What it says against what was found at that moment of a history.
    pub fn judge(
        &mut self,
        history: &Rc<Value>,
        moment: &Value,
        found: Vec<Value>,
    ) -> Result<(), String> {
        if !self
            .history
            .as_ref()
            .is_some_and(|it| Rc::ptr_eq(it, history))
        {
            self.history = Some(history.clone());
            let told = self.ask(history);
            told.unwrap_or_else(|why| panic!("the model and the start: {why}"));
        }
        let mut question = moment.clone();
        question["found"] = found.into();
        self.ask(&question)
    }

    fn ask(&mut self, question: &Value) -> Result<(), String> {
        writeln!(self.ask, "{question}").expect("the model listens");
        let mut line = String::new();
        self.answers
            .read_line(&mut line)
            .expect("the model answers");
        let answer: Value = serde_json::from_str(&line).expect("JSON");
        match answer["ok"].as_bool() {
            Some(true) => Ok(()),
            _ => Err(answer["why"].to_string()),
        }
    }
}

impl Drop for Model {
    fn drop(&mut self) {
        // It ends with its input, but a panic may come in the middle of an answer.
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// A moment in the history of one thread.
pub fn moment(done: u64) -> Value {
    json!({ "done": done, "begun": done + 1 })
}

/// A walk as the model reads it.
pub fn lines(manifest: &Manifest) -> Vec<Value> {
    let lines = manifest.to_lines();
    let parsed = lines
        .lines()
        .map(|line| serde_json::from_str(line).expect("JSON"));
    parsed.collect()
}
