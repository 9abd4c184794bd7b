"use strict";

// The page a todo's link opens is `/app/#/todo/<key>`. This script reads the part after the `#`, fetches the page the
// server made for it, and shows that page's <main> here. The server has escaped all text.
(() => {
  const LIST = "/app/";
  const TODO = "#/todo/";

  // `/app/todo/<key>` is a complete page: there is nothing to do.
  if (location.pathname !== LIST) return;

  let newest = 0;

  const address = () => {
    if (!location.hash.startsWith(TODO)) return LIST;
    const raw = location.hash.slice(TODO.length);
    let key = raw;
    try {
      key = decodeURIComponent(raw);
    } catch {
      // A single `%` typed by hand: the key is used as it is.
    }
    return `${LIST}todo/${encodeURIComponent(key)}`;
  };

  // Links work without this script as well; with it, they need not load a whole page.
  const shortenLinks = () => {
    for (const link of document.querySelectorAll("a[data-key]")) {
      link.href = LIST + TODO + encodeURIComponent(link.dataset.key);
    }
    for (const link of document.querySelectorAll("a[data-list]")) link.href = `${LIST}#/`;
  };

  const failure = () => {
    const heading = document.createElement("h1");
    heading.tabIndex = -1;
    heading.textContent = "The sandbox does not respond";
    const advice = document.createElement("p");
    advice.textContent = "It was probably stopped. Start it again, then load this page again.";
    return [heading, advice];
  };

  const show = async () => {
    const turn = ++newest;
    const announcement = document.getElementById("announcement");
    announcement.textContent = "Loading";
    let content;
    let title;
    try {
      const response = await fetch(address(), { headers: { Accept: "text/html" } });
      const page = new DOMParser().parseFromString(await response.text(), "text/html");
      content = [...page.querySelector("main").childNodes];
      title = page.title;
    } catch {
      content = failure();
      title = "No response – BzCtrl sandbox";
    }
    // A slower response to an earlier click must not replace a later one.
    if (turn !== newest) return;
    const main = document.getElementById("main");
    main.replaceChildren(...content);
    document.title = title;
    announcement.textContent = "";
    document.documentElement.classList.remove("arriving");
    shortenLinks();
    scrollTo(0, 0);
    main.querySelector("h1").focus();
  };

  // Otherwise the list would appear for a moment before the todo.
  const arrivesAtTodo = location.hash.startsWith(TODO);
  if (arrivesAtTodo) document.documentElement.classList.add("arriving");

  document.addEventListener("DOMContentLoaded", () => {
    shortenLinks();
    document.querySelector(".skip").addEventListener("click", (event) => {
      // The part after the `#` says which todo is shown, so the skip link must not change it.
      event.preventDefault();
      document.getElementById("main").focus();
    });
    if (arrivesAtTodo) show();
  });
  addEventListener("hashchange", show);
})();
