// Without this script the page is reloaded by hand. With it, each part marked data-live is, once a second.
const box = document.querySelector("#live input");
document.querySelector("#live").hidden = false;
let leaving = false;
addEventListener("submit", () => (leaving = true));

async function refresh() {
  const answer = await fetch("/");
  if (answer.redirected) return location.reload(); // signed out meanwhile
  if (!answer.ok) return;
  const fresh = new DOMParser().parseFromString(await answer.text(), "text/html");
  for (const part of document.querySelectorAll("[data-live]")) {
    const news = fresh.getElementById(part.id);
    if (leaving || news === null || news.innerHTML === part.innerHTML) continue;
    const focused = part.contains(document.activeElement) ? document.activeElement.id : "";
    part.innerHTML = news.innerHTML;
    document.getElementById(focused)?.focus(); // a button that has the focus keeps it
  }
}

async function live() {
  if (box.checked && !document.hidden && !leaving) await refresh().catch(() => {}); // the server is away: go on
  setTimeout(live, 1000);
}
live();
