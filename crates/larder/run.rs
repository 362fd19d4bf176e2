//! A process that stays: server, mount, or both, from start to clean end.

use crate::auth::Auth;
use crate::config::{ServerSettings, StoreSettings};
use crate::data::Opened;
use crate::limiter::Limiter;
use crate::limits::Set;
use crate::listen::Listening;
use crate::metrics::Metrics;
use crate::mounting::{self, Mounts};
use crate::operator::{Operator, Serving};
use crate::pages::{self, Shown};
use crate::ready::Ready;
use crate::tls::Tls;
use crate::web::Web;
use crate::{actor, control, notify, users};
use larder_api::Api;
use larder_core::{Error, Kind, Result};
use larder_dav::DavService;
use std::path::PathBuf;
use std::sync::{Arc, mpsc};
use std::time::Duration;
use tokio::net::{TcpListener, UnixListener};
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio::time::Instant;

/// Threads for blocking work: uploads, hashes and commands each hold one.
const BLOCKING_THREADS: usize = 256;
/// How often a process that only mounts looks whether its mount is still there.
const MOUNT_CHECK: Duration = Duration::from_millis(200);
/// At the end what is open in a mount of a server's project has so long for the bytes that it lacks.
const SAVE_WAIT: Duration = Duration::from_secs(10);
/// At the end commands under way may take so long.
const COMMANDS_WAIT: Duration = Duration::from_secs(10);
/// An answer takes no longer, once the command is carried out.
const ANSWER_WAIT: Duration = Duration::from_secs(2);
/// What is left of the runtime at the end may take so long.
const LAST_WAIT: Duration = Duration::from_secs(2);

/// The first collection comes so long after the start, when whoever started it is done looking.
const FIRST_COLLECTION: Duration = Duration::from_secs(3600);
/// Others follow daily.
const COLLECTION_PERIOD: Duration = Duration::from_secs(24 * 3600);
/// How often the store is asked whether a checkpoint is due by its age.
const CHECKPOINT_CHECK: Duration = Duration::from_secs(60);

/// What the process is to be.
pub struct Plan {
    /// The store.
    pub store: StoreSettings,
    /// A listener, if any.
    pub http: Option<ServerSettings>,
    /// A mount, if any.
    pub mount: Option<MountPlan>,
    /// The password of the first user, if it is not to be made.
    pub admin_password: Option<String>,
    /// How commands on this drive begin.
    pub command: String,
    /// Tell of the start in JSON.
    pub json: bool,
}

/// A mount to make.
pub struct MountPlan {
    /// What /proc/mounts is to show.
    pub source: PathBuf,
    /// Where.
    pub dir: PathBuf,
    /// Options of mount(8).
    pub options: Vec<String>,
    /// Where FUSE cannot be had, say so and go on without.
    pub optional: bool,
}

/// Runs `plan` until a signal, or the end of its mount.
///
/// # Errors
/// What keeps it from starting; what goes wrong at the end.
pub fn run(plan: Plan) -> Result<()> {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .max_blocking_threads(BLOCKING_THREADS)
        .build()
        .map_err(|e| Error::io("starting threads", e))?;
    let outcome = runtime.block_on(serve(plan));
    runtime.shutdown_timeout(LAST_WAIT);
    outcome
}

async fn serve(plan: Plan) -> Result<()> {
    let data = plan.store.data.clone();
    // From here on a signal ends it in order, however early it comes.
    let signals = Signals::listen()?;
    // What is wrong with the settings is told before anything is made.
    let tls = plan.http.as_ref().and_then(|http| http.tls.clone()).map(Tls::load).transpose()?.map(Arc::new);
    let store = plan.store.clone();
    // A server may have to be asked, which waits.
    let opened = tokio::task::spawn_blocking(move || Opened::open(&store)).await;
    let opened = opened.unwrap_or_else(|_| Err(Error::corrupt("opening the drive failed")))?;
    let at = data.clone();
    let _ = tokio::task::spawn_blocking(move || mounting::clear_dead(&at)).await;
    let mut ready = Ready { data: data.clone(), command: plan.command, ..Ready::default() };
    let door = match &plan.http {
        Some(http) => Some(open_door(http, tls.clone(), &opened, plan.admin_password, &mut ready).await?),
        None => None,
    };
    let mounts = Mounts::default();
    if let Some(mount) = &plan.mount {
        let options = opened.mount_options(&mount.options);
        match mounts.add(&opened.drive, &mount.source, &mount.dir, &options) {
            Ok(()) => {
                ready.mount = Some(mount.dir.clone());
                ready.is_read_only = options.iter().any(|option| option == "ro");
            }
            Err(error) if mount.optional && error.kind() == Kind::Unsupported => {
                ready.no_mount = Some(error.to_string());
            }
            // What FUSE's own program or the kernel does not allow.
            Err(error) if mount.optional && error.kind() == Kind::Denied => {
                ready.no_mount = Some(format!("{error}; give a DIR of your own, and see `larder doctor`"));
            }
            Err(error) => return Err(error),
        }
    }
    let socket = control::listen(&data)?;
    let serving = Serving {
        url: door.as_ref().map(|door| door.url.clone()),
        auth: door.as_ref().map(|door| door.web.auth.clone()),
        limiter: door.as_ref().map(|door| door.limiter.clone()),
        mounts,
    };
    let operator = Arc::new(Operator::serving(opened, serving));
    let tasks = Tasks::start(door, socket, operator.clone());
    ready.say(plan.json)?;
    let until = signals.until_told(tls, operator.clone(), plan.http.is_none()).await;
    end(tasks, operator).await.and(until)
}

/// A listener that is bound and not yet served.
struct Door {
    url: String,
    listener: TcpListener,
    tls: Option<Arc<Tls>>,
    web: Web,
    limiter: Arc<Limiter>,
    metrics: Arc<Metrics>,
}

async fn open_door(
    http: &ServerSettings,
    tls: Option<Arc<Tls>>,
    opened: &Opened,
    admin_password: Option<String>,
    ready: &mut Ready,
) -> Result<Door> {
    let drive = &opened.drive;
    let listener = TcpListener::bind(http.listen).await.map_err(|e| {
        let kind = if e.kind() == std::io::ErrorKind::AddrInUse { Kind::Conflict } else { Kind::Unavailable };
        Error::new(kind, format!("listening on {}", http.listen)).because(e)
    })?;
    let address = listener.local_addr().map_err(|e| Error::io("address of the listener", e))?;
    let url = format!("{}://{address}/dav/home/", if tls.is_some() { "https" } else { "http" });
    ready.password = users::ensure_admin(drive, admin_password)?;
    ready.url = Some(url.clone());
    let all = Set::saved(drive.catalog())?;
    let saved = all.without_gone(drive)?;
    saved.save(drive, &all)?;
    let limiter = Limiter::new(Set { whole: http.limits.clone().or(saved.whole.clone()), ..saved });
    let metrics = Arc::new(Metrics::default());
    let (uid, gid) = actor::ids();
    let shown = Shown { drive: drive.clone(), metrics: metrics.clone(), tiers: limiter.tiers().clone() };
    let web = Web {
        auth: Arc::new(Auth::new(drive.clone())),
        dav: DavService::new(drive.clone(), larder_dav::Settings::home(uid, gid, crate::random::fill)),
        views: Arc::default(),
        api: Api::new(drive.clone(), larder_api::Settings::new(crate::random::fill))?,
        pages: pages::router(shown),
        metrics: metrics.clone(),
    };
    Ok(Door { url, listener, tls, web, limiter, metrics })
}

/// Everything that runs, each with an owner: this.
struct Tasks {
    stop: watch::Sender<bool>,
    listening: Option<JoinHandle<()>>,
    commands: JoinHandle<()>,
    others: Vec<JoinHandle<()>>,
}

impl Tasks {
    fn start(door: Option<Door>, socket: UnixListener, operator: Arc<Operator>) -> Self {
        let (stop, stopped) = watch::channel(false);
        let commands = tokio::spawn(control::run(socket, operator.clone(), stopped.clone()));
        let mut others = vec![tokio::spawn(collect_daily(operator.clone()))];
        others.push(tokio::spawn(checkpoint_in_time(operator.clone())));
        if let Some(period) = notify::watchdog_period() {
            others.push(tokio::spawn(watchdog(period, operator)));
        }
        let listening = door.map(|door| {
            let Door { listener, tls, web, limiter, metrics, .. } = door;
            let payers = limiter.payers().clone();
            others.push(tokio::spawn(limiter.run()));
            tokio::spawn(Listening { listener, tls, web, payers, metrics }.run(stopped))
        });
        Self { stop, listening, commands, others }
    }

    /// Lets requests and commands under way end, unmounts, then stops everything else.
    async fn end(self, operator: Arc<Operator>) -> Result<()> {
        let Self { stop, listening, mut commands, others } = self;
        let commands_end = Instant::now() + COMMANDS_WAIT;
        // An error says that nobody listens any more.
        let _ = stop.send(true);
        if let Some(listening) = listening {
            let _ = listening.await;
        }
        let mounts_end = move || {
            // What was written and is not committed may need bytes that are at a server.
            let saving = operator.clone();
            let (saved, is_saved) = mpsc::channel();
            let save = std::thread::spawn(move || {
                let outcome = saving.mounts().map_or(Ok(()), Mounts::save);
                let _ = saved.send(outcome);
            });
            if let Ok(Err(error)) = is_saved.recv_timeout(SAVE_WAIT) {
                tracing::error!(%error, "saving what is open");
            }
            // Ends what it still waits for.
            operator.opened().let_go();
            let _ = save.join();
            operator.mounts().map_or(Ok(()), Mounts::end)
        };
        let unmounted = tokio::task::spawn_blocking(mounts_end).await;
        // After the mounts, as a command may be waiting for the end of one.
        let commands_end = commands_end.max(Instant::now() + ANSWER_WAIT);
        if tokio::time::timeout_at(commands_end, &mut commands).await.is_err() {
            tracing::warn!("commands did not end in time; they are cut");
            commands.abort();
        }
        for task in others {
            task.abort();
            let _ = task.await;
        }
        unmounted.unwrap_or_else(|_| Err(Error::corrupt("unmounting failed")))
    }
}

/// Drops what is too old and not referred to, once a day.
async fn collect_daily(operator: Arc<Operator>) {
    let mut days = tokio::time::interval_at(Instant::now() + FIRST_COLLECTION, COLLECTION_PERIOD);
    loop {
        days.tick().await;
        let operator = operator.clone();
        let collected = tokio::task::spawn_blocking(move || operator.opened().collect(&|_| {})).await;
        match collected {
            Ok(Ok(gone)) => tracing::info!(%gone, "collected"),
            Ok(Err(error)) => tracing::error!(%error, "collection"),
            Err(error) => tracing::error!(%error, "collection"),
        }
    }
}

/// Sees that what was committed reaches the index in time even where little is written: it bounds the next start.
async fn checkpoint_in_time(operator: Arc<Operator>) {
    let mut checks = tokio::time::interval(CHECKPOINT_CHECK);
    loop {
        checks.tick().await;
        let opened = operator.opened();
        opened.store.checkpoint_if_due(opened.drive.now());
    }
}

async fn watchdog(period: Duration, operator: Arc<Operator>) {
    let mut ticks = tokio::time::interval(period);
    loop {
        ticks.tick().await;
        let operator = operator.clone();
        // A store that hangs keeps this from answering, and systemd starts the service anew.
        if let Ok(Ok(_)) = tokio::task::spawn_blocking(move || operator.opened().drive.usage()).await {
            notify::notify("WATCHDOG=1");
        }
    }
}

/// The signals that the process minds.
struct Signals {
    terminate: Signal,
    interrupt: Signal,
    hangup: Signal,
}

impl Signals {
    fn listen() -> Result<Self> {
        let listen = |kind| signal(kind).map_err(|e| Error::io("signal handler", e));
        let (terminate, interrupt) = (listen(SignalKind::terminate())?, listen(SignalKind::interrupt())?);
        Ok(Self { terminate, interrupt, hangup: listen(SignalKind::hangup())? })
    }

    /// Returns when the process is to end. A SIGHUP reads certificates again.
    async fn until_told(
        mut self,
        tls: Option<Arc<Tls>>,
        operator: Arc<Operator>,
        mount_only: bool,
    ) -> Result<()> {
        let mut checks = tokio::time::interval(MOUNT_CHECK);
        loop {
            tokio::select! {
                _ = self.terminate.recv() => return Ok(()),
                _ = self.interrupt.recv() => return Ok(()),
                _ = self.hangup.recv() => reload(tls.as_deref()),
                _ = checks.tick(), if mount_only => {
                    if operator.mounts().is_none_or(Mounts::end_if_none) {
                        return Ok(());
                    }
                }
            }
        }
    }
}

fn reload(tls: Option<&Tls>) {
    match tls.map(Tls::reload) {
        None => {}
        Some(Ok(())) => tracing::info!("certificate read again"),
        Some(Err(error)) => tracing::error!(%error, "the old certificate stays in use"),
    }
}

async fn end(tasks: Tasks, operator: Arc<Operator>) -> Result<()> {
    notify::notify("STOPPING=1");
    operator.opened().maintenance.hurry();
    let unmounted = tasks.end(operator.clone()).await;
    if let Err(error) = &unmounted {
        tracing::error!(%error, "unmounting");
    }
    let closing = tokio::task::spawn_blocking(move || operator.opened().close());
    let closed = closing.await.unwrap_or_else(|_| Err(Error::corrupt("closing the store failed")));
    unmounted.and(closed)
}
