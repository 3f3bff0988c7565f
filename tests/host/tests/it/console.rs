//! A guest's serial line, with somebody typing.

use std::path::Path;
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::UnixStream;
use tokio::time::timeout;

/// Limit: until a guest has booted or answered.
const PATIENCE: Duration = Duration::from_secs(90);

pub struct Console {
    line: UnixStream,
}

impl Console {
    /// Waits for the login prompt and logs in.
    pub async fn log_in(socket: &Path) -> Console {
        let mut console = Console { line: UnixStream::connect(socket).await.unwrap() };
        console.write("\n").await;
        for (prompt, answer) in [("login: ", "cirros\n"), ("Password: ", "gocubsgo\n")] {
            console.read_to(prompt).await;
            console.write(answer).await;
        }
        console.read_to("# ").await;
        // The shell swallows one line end while it asks the terminal for its size.
        console.write("\n\n").await;
        console
    }

    /// Whether a command succeeds.
    pub async fn succeeds(&mut self, command: &str) -> bool {
        // What is typed comes back, too; the sum does not.
        self.write(&format!("{command}; echo said-$((40+2))-$?.\n")).await;
        self.read_to("said-42-").await;
        self.read_to(".").await.starts_with("0.")
    }

    async fn write(&mut self, text: &str) {
        self.line.write_all(text.as_bytes()).await.unwrap();
    }

    async fn read_to(&mut self, end: &str) -> String {
        let mut said = Vec::new();
        while !said.ends_with(end.as_bytes()) {
            let byte = timeout(PATIENCE, self.line.read_u8()).await;
            let byte = byte.unwrap_or_else(|_| panic!("no «{end}» in {}", String::from_utf8_lossy(&said)));
            said.push(byte.unwrap());
        }
        String::from_utf8_lossy(&said).into_owned()
    }
}
