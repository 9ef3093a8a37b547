//! A client of bare frames, and batches made by the crate kafka-protocol.
#![allow(dead_code, reason = "each test binary uses a part")]

use std::io;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use kafka_protocol::records::{
    Compression, Record, RecordBatchEncoder, RecordEncodeOptions, TimestampType,
};
use sordini_broker::Server;
use sordini_broker::protocol::messages::metadata::{MetadataRequest, MetadataRequestTopic};
use sordini_broker::protocol::messages::produce::{
    PartitionProduceData, ProduceRequest, TopicProduceData,
};
use sordini_broker::protocol::{Message, Request, Uuid, frame};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;

const PATIENCE: Duration = Duration::from_secs(30);

/// One connection.
pub(crate) struct Client {
    /// The socket.
    pub(crate) stream: TcpStream,
    correlation_id: i32,
}

impl Client {
    /// Connects to a server.
    pub(crate) async fn connect(server: &Server) -> Self {
        Self::connect_to(server.addr()).await
    }

    /// Connects to an address.
    pub(crate) async fn connect_to(addr: std::net::SocketAddr) -> Self {
        let stream = TcpStream::connect(addr).await.expect("connect");
        Self { stream, correlation_id: 0 }
    }

    /// Sends a request.
    pub(crate) async fn send<R: Request>(&mut self, request: &R, version: i16) {
        self.try_send(request, version).await.expect("send");
    }

    async fn try_send<R: Request>(&mut self, request: &R, version: i16) -> io::Result<()> {
        self.correlation_id += 1;
        let mut out = Vec::new();
        let id = Some("test");
        frame::put_request(&mut out, request, version, self.correlation_id, id).expect("encode");
        self.stream.write_all(&out).await
    }

    /// Reads the next answer.
    pub(crate) async fn receive<R: Request>(&mut self, version: i16) -> R::Response {
        self.try_receive::<R>(version).await.expect("receive")
    }

    async fn try_receive<R: Request>(&mut self, version: i16) -> io::Result<R::Response> {
        let read = async {
            let size = self.stream.read_u32().await?;
            let mut frame = vec![0; size as usize];
            self.stream.read_exact(&mut frame).await?;
            Ok::<_, io::Error>(frame)
        };
        let bytes = timeout(PATIENCE, read).await.expect("an answer in time")?;
        let (_, mut reader) = frame::response_header::<R>(bytes.into(), version).expect("header");
        Ok(R::Response::decode(&mut reader, version).expect("decode"))
    }

    /// Sends a request and reads its answer.
    pub(crate) async fn ask<R: Request>(&mut self, request: &R, version: i16) -> R::Response {
        self.try_ask(request, version).await.expect("ask")
    }

    /// The same, where the connection may be closed.
    pub(crate) async fn try_ask<R: Request>(
        &mut self,
        request: &R,
        version: i16,
    ) -> io::Result<R::Response> {
        self.try_send(request, version).await?;
        self.try_receive::<R>(version).await
    }

    /// The id of a topic.
    pub(crate) async fn topic_id(&mut self, name: &str) -> Uuid {
        let ask = MetadataRequest {
            topics: Some(vec![MetadataRequestTopic {
                name: Some(name.to_owned()),
                ..Default::default()
            }]),
            ..Default::default()
        };
        self.ask(&ask, 13).await.topics[0].topic_id
    }
}

/// A batch of records without keys, encoded by another implementation.
pub(crate) fn batch(values: &[&str]) -> Bytes {
    let records: Vec<Record> = (0i64..)
        .zip(values)
        .map(|(offset, value)| Record {
            transactional: false,
            control: false,
            delete_horizon: false,
            partition_leader_epoch: -1,
            producer_id: -1,
            producer_epoch: -1,
            timestamp_type: TimestampType::Creation,
            offset,
            sequence: -1,
            timestamp: 1_700_000_000_000,
            key: None,
            value: Some(Bytes::copy_from_slice(value.as_bytes())),
            headers: Default::default(),
        })
        .collect();
    let mut out = BytesMut::new();
    let options = RecordEncodeOptions { version: 2, compression: Compression::None };
    RecordBatchEncoder::encode(&mut out, &records, &options).expect("encode");
    out.freeze()
}

/// A Produce request of one batch.
pub(crate) fn produce(topic_id: Uuid, index: i32, records: Bytes, acks: i16) -> ProduceRequest {
    ProduceRequest {
        acks,
        timeout_ms: 1000,
        topic_data: vec![TopicProduceData {
            topic_id,
            partition_data: vec![PartitionProduceData { index, records: Some(records) }],
            ..Default::default()
        }],
        ..Default::default()
    }
}
