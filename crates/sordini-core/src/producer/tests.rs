//! The control plane in virtual time, against scripted brokers. The stories are sorted as the
//! catalogue of bug classes is, and cite its lines.

mod log;
mod monitor;
mod peer;
mod world;

mod basics;
mod chaos;
mod ending;
mod expiry;
mod fairness;
mod links;
mod metadata;
mod order;
mod sequences;
