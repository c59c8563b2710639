// Which pictures a page may load: what the policy of its document says, so that no picture is asked for in vain.

/** The sources of the policy besides the shop itself: `*`, an origin, or one whose host begins with `*.`. */
const sources = (document.documentElement.dataset.images ?? "").split(" ").filter(Boolean);

/** Whether `source` allows `url` (Content Security Policy Level 3, section 6.7.2.6). */
function allows(source, { protocol, host, origin }) {
  if (source === "*") return ["https:", "http:"].includes(protocol);
  const [scheme, name] = source.split("//");
  return name?.startsWith("*.") ? protocol === scheme && host.endsWith(name.slice(1)) : origin === source;
}

/** Whether this page may load the picture at `address`. */
export function mayLoad(address) {
  if (!URL.canParse(address, location.href)) return false;
  const url = new URL(address, location.href);
  return url.origin === location.origin || sources.some((source) => allows(source, url));
}
