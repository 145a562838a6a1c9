//! No server, another server, and one that says nothing: each told apart, soon, with what to start.

use seedpod::{
    Kind,
    queue::{Amqp, Broker, Brokers, Topic, TopicOptions, Want},
};
use seedpod_server_tests::free_port;
use std::time::{Duration, Instant};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpListener,
};

#[tokio::test]
async fn a_server_that_is_not_there() {
    let port = free_port();
    let url = format!("amqp://me:secret@127.0.0.1:{port}");
    let error = Amqp::connect(&url).await.unwrap_err();
    assert_eq!(error.kind(), Kind::Unavailable);
    let expected = format!("broker amqp://127.0.0.1:{port}: unavailable: nothing listens there; start RabbitMQ there");
    assert!(error.to_string().starts_with(&expected) && error.to_string().contains("rabbitmq-server"), "{error}");
    assert!(!error.chain().contains("secret") && !format!("{error:?}").contains("secret"), "{error:?}");

    // found by its URL, it is connected at the first call, which names what it was for
    let broker = Brokers::default().get(&url).unwrap();
    let topic = Topic::new("orders");
    let error = broker.declare(&topic, TopicOptions::new()).await.unwrap_err();
    assert!(error.to_string().starts_with(&format!("topic orders, broker amqp://127.0.0.1:{port}: ")), "{error}");
    let error = broker.lease(&topic.subscription("mailer"), Want::one()).await.unwrap_err();
    assert!(error.is_retryable() && error.to_string().contains("subscription orders/mailer"), "{error}");
    assert_eq!(Brokers::default().get("amqps://me:secret@host").err().unwrap().kind(), Kind::Unsupported);
}

#[tokio::test]
async fn a_server_that_is_another() {
    for answer in ["HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\n\r\n", "INFO {\"server_id\":\"X\"} \r\n", ""] {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("amqp://{}", listener.local_addr().unwrap());
        let server = tokio::spawn(async move {
            let (mut stream, _) = listener.accept().await.unwrap();
            let _ = stream.read(&mut [0; 100]).await;
            let _ = stream.write_all(answer.as_bytes()).await;
        });
        let began = Instant::now();
        let error = Amqp::connect(&url).await.unwrap_err();
        assert!(began.elapsed() < Duration::from_secs(10), "it took {:?}", began.elapsed());
        let expected = if answer.is_empty() { Kind::Unavailable } else { Kind::Unsupported };
        assert_eq!(error.kind(), expected, "{answer:?}: {}", error.chain());
        assert!(error.to_string().contains(&url) && error.to_string().contains("start RabbitMQ"), "{error}");
        server.await.unwrap();
    }
}

#[tokio::test]
async fn a_server_that_says_nothing() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("amqp://{}", listener.local_addr().unwrap());
    let broker = Amqp::new(&url).unwrap().patience(Duration::from_secs(1));
    let began = Instant::now();
    let error = broker.inspect(&Topic::new("orders")).await.unwrap_err();
    assert!(began.elapsed() < Duration::from_secs(3), "it took {:?}", began.elapsed());
    assert_eq!(error.kind(), Kind::Unavailable);
    assert!(error.to_string().contains("said nothing for 1s"), "{error}");

    // those who ask at once wait together, not one after the other
    let began = Instant::now();
    let topic = Topic::new("orders");
    let all = futures::future::join_all((0..20).map(|_| broker.inspect(&topic))).await;
    assert!(all.iter().all(Result::is_err) && began.elapsed() < Duration::from_secs(4), "{:?}", began.elapsed());
}
