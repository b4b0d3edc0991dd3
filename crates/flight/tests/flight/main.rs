//! Both ends of the data plane over loopback.

#[cfg(test)]
mod elsewhere;
#[cfg(test)]
mod exchanges;
#[cfg(test)]
mod hostile;
#[cfg(test)]
mod models;
#[cfg(test)]
mod selections;
#[cfg(test)]
mod shards;
#[cfg(test)]
mod toy;
#[cfg(test)]
mod uploads;
