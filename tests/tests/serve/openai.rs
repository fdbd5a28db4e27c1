//! async-openai, a client of OpenAI's interface in Rust, against the server. Its types know four sizes, of which this has one.
#![allow(deprecated, reason = "the interface lives on in servers such as this one")]

use super::guarded::key;
use super::served::Served;
use async_openai::Client;
use async_openai::config::OpenAIConfig;
use async_openai::error::OpenAIError;
use async_openai::traits::RequestOptionsBuilder;
use async_openai::types::videos::{
    CreateVideoRequest, CreateVideoRequestArgs, ListVideosQueryArgs, RemixVideoRequestArgs, VideoResource,
    VideoSeconds, VideoSize, VideoStatus,
};
use std::time::{Duration, Instant};

fn client(server: &Served, key: &str) -> Client<OpenAIConfig> {
    let address = format!("http://127.0.0.1:{}/v1", server.port);
    Client::with_config(OpenAIConfig::new().with_api_base(address).with_api_key(key))
}

/// A clip of one frame.
fn request(model: &str) -> CreateVideoRequest {
    let mut request = CreateVideoRequestArgs::default();
    request.model(model).prompt("a red ball rolls").size(VideoSize::S1280x720);
    request.seconds(VideoSeconds::Other("0.05".into())).build().expect("a request")
}

/// The code of what the server has refused.
fn code<T>(refused: Result<T, OpenAIError>) -> String {
    match refused {
        Err(OpenAIError::ApiError(refused)) => refused.api_error.code.unwrap_or_default(),
        Err(error) => panic!("{error}"),
        Ok(_) => panic!("it is answered"),
    }
}

async fn completed(client: &Client<OpenAIConfig>, id: &str) -> VideoResource {
    let start = Instant::now();
    loop {
        let video = client.videos().retrieve(id).await.expect("a clip");
        match video.status {
            VideoStatus::Queued | VideoStatus::InProgress => assert!(video.progress < 100, "{video:?}"),
            VideoStatus::Completed => return video,
            VideoStatus::Failed => panic!("{video:?}"),
        }
        assert!(start.elapsed() < Duration::from_mins(5), "{video:?}");
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}

#[test]
fn async_openai_makes_lists_reads_remixes_and_deletes_clips() {
    let data = tempfile::tempdir().expect("a directory");
    let anna = key(data.path(), "anna", &[]);
    let server = Served::start(data.path(), &[]);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    runtime.block_on(async {
        let client = client(&server, &anna);
        let created = client.videos().create(request("embedded")).await.expect("it is accepted");
        assert_eq!((created.object.as_str(), created.model.as_str()), ("video", "embedded"), "{created:?}");
        assert_eq!(created.size, VideoSize::S1280x720, "{created:?}");
        let video = completed(&client, &created.id).await;
        assert_eq!((video.progress, video.error.is_none()), (100, true), "{video:?}");
        assert!(video.completed_at >= Some(video.created_at), "{video:?}");
        let content = client.videos().download_content(&video.id).await.expect("a file");
        assert_eq!(&content[4..8], b"ftyp");

        let remix = RemixVideoRequestArgs::default().prompt("a blue ball rolls").build().expect("a request");
        let remix = client.videos().remix(&video.id, remix).await.expect("it is accepted");
        assert_eq!(remix.remixed_from_video_id.as_deref(), Some(video.id.as_str()), "{remix:?}");
        let listed = client.videos().list().await.expect("a list");
        let ids: Vec<&str> = listed.data.iter().map(|video| video.id.as_str()).collect();
        assert_eq!((ids, listed.has_more), (vec![remix.id.as_str(), video.id.as_str()], false), "the newest first");
        let query = ListVideosQueryArgs::default().limit(1u32).after(remix.id.clone()).build().expect("a query");
        let rest = client.videos().query(&query).expect("a query").list().await.expect("a list");
        assert_eq!(rest.first_id.as_deref(), Some(video.id.as_str()), "{rest:?}");

        // The one that is made is stopped before.
        for id in [&remix.id, &video.id] {
            let deleted = client.videos().delete(id).await.expect("it is deleted");
            assert_eq!((&deleted.id, deleted.deleted, deleted.object.as_str()), (id, true, "video.deleted"));
            assert_eq!(code(client.videos().retrieve(id).await), "video_not_found");
        }
        assert_eq!(code(client.videos().create(request("sora-2")).await), "model_not_found");
        let stranger = self::client(&server, "kin_unknown");
        assert_eq!(code(stranger.videos().list().await), "invalid_api_key");
    });
}
