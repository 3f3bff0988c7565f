//! A wire to the broker that can be cut.

use std::net::SocketAddr;

use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;

pub struct Wire {
    pub address: SocketAddr,
    whole: watch::Sender<bool>,
}

impl Wire {
    /// Listens, and carries everything to `to` and back.
    pub async fn to(to: String) -> Wire {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let (whole, state) = watch::channel(true);
        tokio::spawn(async move {
            while let Ok((near, _)) = listener.accept().await {
                tokio::spawn(carry(near, to.clone(), state.clone()));
            }
        });
        Wire { address, whole }
    }

    /// Breaks every connection, and each new one.
    pub fn cut(&self) {
        self.whole.send_replace(false);
    }

    pub fn mend(&self) {
        self.whole.send_replace(true);
    }
}

async fn carry(mut near: TcpStream, to: String, mut whole: watch::Receiver<bool>) {
    if !*whole.borrow() {
        return;
    }
    let mut far = TcpStream::connect(to).await.unwrap();
    tokio::select! {
        _ = tokio::io::copy_bidirectional(&mut near, &mut far) => {}
        _ = whole.wait_for(|whole| !*whole) => {}
    }
}
