//! Real servers for tests: MariaDB, PostgreSQL, RabbitMQ and memcached from Debian packages, each in a directory of
//! its own, and gone when its guard is dropped or the test dies, however it dies.
//!
//! Most tests only want [`test_db`] and [`test_bus`], which follow the environment:
//!
//! | variable                     | values                                      |
//! |------------------------------|---------------------------------------------|
//! | `FERROSTACK_TEST_DB`         | `sqlite` (default), `mariadb`, `postgres`   |
//! | `FERROSTACK_TEST_DB_SERVER`  | `url("")` of a server that runs already     |
//! | `FERROSTACK_TEST_BUS`        | `local` (default), `rabbitmq`               |
//! | `FERROSTACK_TEST_BUS_SERVER` | `url("")` of a broker that runs already     |
//!
//! Without a server that runs already, each test process starts its own and shares it among its tests.

mod fresh;
mod keeper;
mod mariadb;
mod memcached;
mod postgres;
mod rabbitmq;

pub use fresh::{TestBus, TestDb, test_bus, test_db};
pub use mariadb::MariaDb;
pub use memcached::Memcached;
pub use postgres::Postgres;
pub use rabbitmq::RabbitMq;
