//! DeleteTopics (key 20), versions 1 to 6; 6: topics by name or id. A deleted topic's id never
//! comes back.

use sordini_protocol::messages::delete_topics::{
    DeletableTopicResult, DeleteTopicState, DeleteTopicsRequest, DeleteTopicsResponse,
};
use sordini_protocol::{ErrorCode, Uuid};

use crate::broker::{TopicError, TopicKeeper};

pub(crate) fn handle(
    keeper: &mut impl TopicKeeper,
    version: i16,
    request: &DeleteTopicsRequest,
) -> DeleteTopicsResponse {
    let wanted = targets(version, request);
    let responses = wanted.iter().map(|target| delete(keeper, target)).collect();
    DeleteTopicsResponse { responses, ..DeleteTopicsResponse::default() }
}

fn targets(version: i16, request: &DeleteTopicsRequest) -> Vec<DeleteTopicState> {
    if version >= 6 {
        return request.topics.clone();
    }
    let by_name = |name: &String| DeleteTopicState {
        name: Some(name.clone()),
        ..DeleteTopicState::default()
    };
    request.topic_names.iter().map(by_name).collect()
}

fn delete(keeper: &mut impl TopicKeeper, target: &DeleteTopicState) -> DeletableTopicResult {
    let known = keeper.name_of(&target.topic_id);
    let result = match (&target.name, target.topic_id.is_zero(), known) {
        (Some(name), true, _) => {
            let id = keeper.id_of(name).unwrap_or(Uuid::ZERO);
            keeper.delete(name).map(|()| (Some(name.clone()), id))
        }
        (None, false, Some(name)) => keeper.delete(&name).map(|()| (Some(name), target.topic_id)),
        (None, false, None) => {
            let message = format!("there is no topic with the id {}", target.topic_id);
            Err(TopicError::new(ErrorCode::UnknownTopicId, message))
        }
        _ => {
            let message = "a topic must be named either by name or by id";
            Err(TopicError::new(ErrorCode::InvalidRequest, message))
        }
    };
    match result {
        Ok((name, topic_id)) => {
            DeletableTopicResult { name, topic_id, ..DeletableTopicResult::default() }
        }
        Err(error) => DeletableTopicResult {
            error_message: Some(error.message),
            ..failure(target, error.code)
        },
    }
}

fn failure(target: &DeleteTopicState, code: ErrorCode) -> DeletableTopicResult {
    DeletableTopicResult {
        name: target.name.clone(),
        topic_id: target.topic_id,
        error_code: code.code(),
        ..DeletableTopicResult::default()
    }
}

/// Refuses all topics.
pub(super) fn refuse(
    request: &DeleteTopicsRequest,
    version: i16,
    code: ErrorCode,
) -> DeleteTopicsResponse {
    let responses = targets(version, request).iter().map(|target| failure(target, code)).collect();
    DeleteTopicsResponse { responses, ..DeleteTopicsResponse::default() }
}
