//! The command line.

use std::net::IpAddr;
use std::path::PathBuf;

use clap::{Args, Parser, Subcommand};

/// A whole OpenStack cloud in one program.
#[derive(Debug, Parser)]
#[command(name = "ferrostack", version, disable_help_subcommand = true)]
pub struct Command {
    #[command(subcommand)]
    pub verb: Verb,
}

#[derive(Debug, Subcommand)]
pub enum Verb {
    /// Start the all-in-one cloud; a second run changes nothing
    Up(Up),
    /// Stop the cloud; guests go on
    Down(Down),
    /// Say what runs and where
    Status(Place),
    /// Check this host and the cloud, and say how to mend what is wrong
    Doctor(Place),
    /// List what has no owner: nothing, if all is well
    Leaks(Place),
    /// Make what a first user needs: an image, flavors, networks, a keypair
    InitRunonce(InitRunonce),
    /// Run chosen services, configured by upstream's files
    Serve(Serve),
    /// Run the agents of this host
    Agent(Agent),
    /// Say why a server is as it is
    Explain(Explain),
    /// Print every operation that is served, a line each
    #[command(hide = true)]
    Operations,
    /// Write the pages of docs/api
    #[command(hide = true)]
    Documents { into: PathBuf },
    /// Say which version this is
    Version,
}

#[derive(Debug, Clone, Args)]
pub struct Place {
    /// Where the cloud keeps its things [default: /var/lib/ferrostack, or the user's data directory]
    #[arg(long, value_name = "DIRECTORY")]
    pub data_dir: Option<PathBuf>,
}

#[derive(Debug, Clone, Args)]
pub struct Up {
    #[command(flatten)]
    pub place: Place,
    /// The address to listen on; anything but loopback should be behind TLS
    #[arg(long, default_value = "127.0.0.1")]
    pub bind: IpAddr,
    /// What the catalog calls this host: http://cloud.example.org, without ports
    #[arg(long, value_name = "URL")]
    pub public_url: Option<String>,
    /// Add this to every port
    #[arg(long, default_value_t = 0, value_name = "N")]
    pub port_offset: u16,
    /// Simulated hosts: no root, no guests
    #[arg(long)]
    pub fake: bool,
    /// How many simulated hosts
    #[arg(long, default_value_t = 1, value_name = "N")]
    pub fake_hosts: u32,
    /// Run the host's bridges, routers and guests in this network namespace
    #[arg(long, value_name = "NAME")]
    pub netns: Option<String>,
    /// The host's name [default: this machine's]
    #[arg(long, value_name = "NAME")]
    pub host: Option<String>,
    /// Join a provider network to an interface: physnet1:eth1
    #[arg(long, value_name = "NETWORK:INTERFACE")]
    pub physical_interface: Vec<String>,
    /// Go into the background once every API answers
    #[arg(long)]
    pub detach: bool,
}

#[derive(Debug, Clone, Args)]
pub struct Down {
    #[command(flatten)]
    pub place: Place,
    /// Remove guests, networks and the data directory, too
    #[arg(long)]
    pub purge: bool,
}

#[derive(Debug, Clone, Args)]
pub struct InitRunonce {
    #[command(flatten)]
    pub place: Place,
    /// The disk image to upload
    #[arg(long, value_name = "FILE")]
    pub image: PathBuf,
    #[arg(long, default_value = "cirros")]
    pub image_name: String,
    /// The physical network that the external network is joined to
    #[arg(long, default_value = "physnet1", value_name = "NETWORK")]
    pub physical_network: String,
    /// The provider network's addresses
    #[arg(long, default_value = "10.0.2.0/24", value_name = "CIDR")]
    pub external_cidr: String,
    /// The range that floating addresses are taken from: first,last
    #[arg(long, default_value = "10.0.2.150,10.0.2.199", value_name = "FIRST,LAST")]
    pub external_range: String,
    #[arg(long, default_value = "10.0.2.1", value_name = "ADDRESS")]
    pub external_gateway: String,
    #[arg(long, default_value = "10.0.0.0/24", value_name = "CIDR")]
    pub demo_cidr: String,
    /// The public key of the keypair «mykey» [default: a new pair in the data directory]
    #[arg(long, value_name = "FILE")]
    pub public_key: Option<PathBuf>,
}

#[derive(Debug, Clone, Args)]
pub struct Serve {
    /// identity, image, placement, compute, metadata, network
    #[arg(long, value_delimiter = ',', required = true)]
    pub services: Vec<String>,
    /// Where the services' own directories are: keystone/keystone.conf, nova/nova.conf, …
    #[arg(long, default_value = "/etc", value_name = "DIRECTORY")]
    pub config_dir: PathBuf,
    #[command(flatten)]
    pub place: Place,
    #[arg(long, default_value = "127.0.0.1")]
    pub bind: IpAddr,
    #[arg(long, default_value_t = 0, value_name = "N")]
    pub port_offset: u16,
}

#[derive(Debug, Clone, Args)]
pub struct Agent {
    #[arg(long, default_value = "/etc", value_name = "DIRECTORY")]
    pub config_dir: PathBuf,
    #[command(flatten)]
    pub place: Place,
    /// What the controllers add to every port
    #[arg(long, default_value_t = 0, value_name = "N")]
    pub port_offset: u16,
    /// Run this host's bridges, routers and guests in this network namespace
    #[arg(long, value_name = "NAME")]
    pub netns: Option<String>,
    /// The host's name [default: this machine's]
    #[arg(long, value_name = "NAME")]
    pub host: Option<String>,
    /// Simulated guests and networks
    #[arg(long)]
    pub fake: bool,
}

#[derive(Debug, Clone, Args)]
pub struct Explain {
    #[command(flatten)]
    pub place: Place,
    /// The server's UUID
    pub server: String,
}
