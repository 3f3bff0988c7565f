//! Guests on a host: the drivers that run them and the agent that keeps a host as the controllers want it.
//!
//! - [`hypervisor`] the doors: [`Hypervisor`] (what a driver can do), [`Images`] (where base images come from)
//! - [`qemu`]       one QEMU per server, spoken to over QMP
//! - [`fake`]       guests in memory, for tests and for `up --fake`
//! - [`agent`]      asks what should be here, compares, repairs, reports
//! - [`limits`]     every limit of this crate
//!
//! ```text
//!  controllers ──DESIRED──▶ Agent ──ensure──▶ Hypervisor ──▶ QEMU, taps, disks
//!       ▲                     │ ▲                  │
//!       └──────REPORT─────────┘ └────changes───────┘
//! ```

pub mod agent;
pub mod fake;
pub mod hypervisor;
pub mod limits;
pub mod qemu;

pub use agent::{Agent, Controllers, Pace};
pub use fake::{Fake, FakeBehaviour, FakeSize};
pub use hypervisor::{Hypervisor, Identity, Images, Vnc, Work};
pub use qemu::{Qemu, QemuConfig, VirtType};
