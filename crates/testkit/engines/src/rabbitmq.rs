//! A RabbitMQ of one's own: its own node name, its own epmd, its own directories, no plugins.
//!
//! Tests want a virtual host each, and `rabbitmqctl` needs seconds for one. So the broker is told to listen on a Unix
//! socket, where a line `add NAME` makes a virtual host and `delete NAME` removes it.

use std::io::{BufRead, BufReader, Write};
use std::net::TcpStream;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};

use anyhow::{Context, bail};

use crate::keeper::{Keeper, Order, Runner, free_port, words};

/// A running RabbitMQ; dropping it stops it.
#[derive(Debug)]
pub struct RabbitMq {
    port: u16,
    // In this order: the broker goes before its epmd.
    broker: Keeper,
    _epmd: Keeper,
}

const PROGRAM: &str = "/usr/lib/rabbitmq/bin/rabbitmq-server";

/// Limit: somebody else may take a port between our choice and the server's; then we choose again.
const TRIES: usize = 3;

const VHOSTS: &str = r#"
spawn(fun() ->
    {ok, Listener} = gen_tcp:listen(0, [{ifaddr, {local, "SOCKET"}}, {active, false}, {packet, line}]),
    Allow = fun(Name) ->
        All = <<".*">>,
        rabbit_auth_backend_internal:set_permissions(<<"guest">>, Name, All, All, All, <<"test">>)
    end,
    Do = fun("add " ++ Name) ->
            Host = list_to_binary(string:trim(Name)),
            rabbit_vhost:add(Host, <<"test">>),
            Allow(Host);
        ("delete " ++ Name) ->
            rabbit_vhost:delete(list_to_binary(string:trim(Name)), <<"test">>)
    end,
    Serve = fun(Socket) ->
        {ok, Line} = gen_tcp:recv(Socket, 0),
        Answer = try Do(Line), "ok" catch _:Reason -> io_lib:format("~0p", [Reason]) end,
        gen_tcp:send(Socket, [Answer, "\n"]),
        gen_tcp:close(Socket)
    end,
    Loop = fun Again() ->
        {ok, Socket} = gen_tcp:accept(Listener),
        spawn(fun() -> Serve(Socket) end),
        Again()
    end,
    Loop()
end).
"#;

impl RabbitMq {
    pub fn start() -> anyhow::Result<RabbitMq> {
        let mut tries = (0..TRIES).map(|_| RabbitMq::try_start());
        let first = tries.next().context("there is at least one try")?;
        first.or_else(|error| tries.find_map(Result::ok).ok_or(error))
    }

    fn try_start() -> anyhow::Result<RabbitMq> {
        let runner = Runner::new("rabbitmq")?;
        let (port, names_port, distribution_port) = (free_port()?, free_port()?, free_port()?);
        let epmd = epmd(&runner, names_port)?;

        let directory = runner.directory()?;
        let at = |name: &str| directory.join(name).display().to_string();
        let socket = vhosts(&directory);
        let write = |name: &str, text: &str| -> anyhow::Result<()> {
            std::fs::write(directory.join(name), text)?;
            runner.give(&directory.join(name))
        };
        write("vhosts.erl", &VHOSTS.replace("SOCKET", &socket.display().to_string()))?;
        write("enabled_plugins", "[].\n")?;
        write(
            "rabbitmq.conf",
            &format!(
                "listeners.tcp.1 = 127.0.0.1:{port}\nlog.console = true\nlog.console.level = warning\n\
                 log.file = false\ndisk_free_limit.absolute = 1MB\nvm_memory_high_watermark.relative = 0.8\n"
            ),
        )?;
        let environment = vec![
            ("HOME", at("")),
            ("ERL_EPMD_PORT", names_port.to_string()),
            ("ERL_EPMD_ADDRESS", "127.0.0.1".to_string()),
            ("RABBITMQ_NODENAME", format!("engine{port}@localhost")),
            ("RABBITMQ_DIST_PORT", distribution_port.to_string()),
            ("RABBITMQ_MNESIA_BASE", at("mnesia")),
            ("RABBITMQ_LOG_BASE", at("logs")),
            ("RABBITMQ_LOGS", "-".to_string()),
            ("RABBITMQ_CONFIG_FILE", at("rabbitmq.conf")),
            ("RABBITMQ_ADVANCED_CONFIG_FILE", at("advanced.config")),
            ("RABBITMQ_CONF_ENV_FILE", at("rabbitmq-env.conf")),
            ("RABBITMQ_ENABLED_PLUGINS_FILE", at("enabled_plugins")),
            ("RABBITMQ_GENERATED_CONFIG_DIR", at("generated")),
            ("RABBITMQ_PID_FILE", at("rabbitmq.pid")),
            // Without this a shell script would stay between us and the broker.
            ("RABBITMQ_ALLOW_INPUT", "1".to_string()),
        ];
        let script = format!("file:eval(\"{}\").", directory.join("vhosts.erl").display());
        let arguments = words(&["-noinput", "-eval", &script]);
        let order = Order {
            runner: &runner,
            directory: directory.clone(),
            program: PROGRAM,
            arguments,
            environment,
            signal: "KILL",
        };
        let broker = Keeper::start(order, |_| {
            TcpStream::connect(("127.0.0.1", port)).is_ok() && UnixStream::connect(&socket).is_ok()
        })?;
        Ok(RabbitMq { port, broker, _epmd: epmd })
    }

    /// The URL of a virtual host, as `[DEFAULT] transport_url` has it; that of the broker for `""`. The broker makes
    /// `/` by itself and the others with [`RabbitMq::add`].
    pub fn url(&self, vhost: &str) -> String {
        let url = format!("rabbit://guest:guest@127.0.0.1:{}/{vhost}", self.port);
        match vhost {
            "" => format!("{url}?engine={}", self.broker.directory.display()),
            _ => url,
        }
    }

    /// Makes a virtual host.
    pub fn add(&self, vhost: &str) -> anyhow::Result<()> {
        tell(&self.broker.directory, &format!("add {vhost}"))
    }
}

/// Where the broker whose files are in `directory` takes virtual hosts.
fn vhosts(directory: &Path) -> PathBuf {
    directory.join("vhosts.sock")
}

/// Has the broker whose files are in `directory` make or remove a virtual host.
pub(crate) fn tell(directory: &Path, line: &str) -> anyhow::Result<()> {
    let mut stream = UnixStream::connect(vhosts(directory))?;
    stream.write_all(format!("{line}\n").as_bytes())?;
    let mut answer = String::new();
    BufReader::new(stream).read_line(&mut answer)?;
    if answer.trim() != "ok" {
        bail!("RabbitMQ did not {line}: {answer}");
    }
    Ok(())
}

/// Erlang nodes find each other through an epmd; ours must not meet anybody else's.
fn epmd(runner: &Runner, port: u16) -> anyhow::Result<Keeper> {
    let directory = runner.directory()?;
    let arguments = words(&["-port", &port.to_string(), "-address", "127.0.0.1"]);
    let order = Order { runner, directory, program: "epmd", arguments, environment: Vec::new(), signal: "KILL" };
    Keeper::start(order, |_| TcpStream::connect(("127.0.0.1", port)).is_ok())
}
