//! A private RabbitMQ on its own ports and in its own directory.

use std::net::TcpListener;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

pub struct Broker {
    directory: tempfile::TempDir,
    port: u16,
    names: Child,
    server: Option<Child>,
    names_port: u16,
}

impl Broker {
    pub async fn start() -> Broker {
        let directory = tempfile::tempdir().unwrap();
        let [port, names_port] = [free_port(), free_port()];
        // Erlang's own name server, which would otherwise outlive us on a fixed port.
        let names = quiet(Command::new("epmd").args(["-address", "127.0.0.1", "-port", &names_port.to_string()]));
        let mut broker = Broker { directory, port, names, server: None, names_port };
        broker.up().await;
        broker
    }

    pub fn transport_url(&self) -> String {
        format!("rabbit://guest:guest@127.0.0.1:{}//", self.port)
    }

    pub async fn up(&mut self) {
        let home = self.directory.path();
        let path = |name: &str| home.join(name).into_os_string();
        std::fs::write(home.join("plugins"), "[].").unwrap();
        let server = quiet(
            Command::new("/usr/lib/rabbitmq/bin/rabbitmq-server")
                .env("HOME", home)
                .env("ERL_EPMD_PORT", self.names_port.to_string())
                .env("RABBITMQ_NODENAME", format!("test{}@localhost", self.port))
                .env("RABBITMQ_NODE_IP_ADDRESS", "127.0.0.1")
                .env("RABBITMQ_NODE_PORT", self.port.to_string())
                .env("RABBITMQ_DIST_PORT", free_port().to_string())
                .env("RABBITMQ_MNESIA_BASE", path("mnesia"))
                .env("RABBITMQ_LOG_BASE", path("log"))
                .env("RABBITMQ_PID_FILE", path("pid"))
                .env("RABBITMQ_CONFIG_FILE", path("config"))
                .env("RABBITMQ_ENABLED_PLUGINS_FILE", path("plugins")),
        );
        self.server = Some(server);
        self.wait(home).await;
    }

    /// Kills the broker without a goodbye.
    pub fn down(&mut self) {
        if let Some(mut server) = self.server.take() {
            kill_group(&mut server);
        }
    }

    async fn wait(&self, home: &Path) {
        let deadline = Instant::now() + Duration::from_secs(60);
        while tokio::net::TcpStream::connect(("127.0.0.1", self.port)).await.is_err() {
            assert!(Instant::now() < deadline, "RabbitMQ did not start; see {}", home.display());
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    }
}

impl Drop for Broker {
    fn drop(&mut self) {
        self.down();
        kill_group(&mut self.names);
    }
}

fn quiet(command: &mut Command) -> Child {
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).process_group(0).spawn().unwrap()
}

fn kill_group(child: &mut Child) {
    let group = format!("-{}", child.id());
    Command::new("kill").args(["-KILL", "--", &group]).status().unwrap();
    child.wait().unwrap();
}

fn free_port() -> u16 {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}
