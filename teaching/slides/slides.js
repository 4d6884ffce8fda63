// MathJax reads this when it starts. Glyphs stay with their formula, so that the speaker's window shows them, too.
window.MathJax = {
  tex: { inlineMath: [["$", "$"]], processEscapes: true },
  svg: { fontCache: "local" },
  options: { enableMenu: false },  // its menu would load what is not here
  startup: {
    async pageReady() {
      await MathJax.startup.defaultPageReady();
      // The speaker's window lacks the style that hides this text for screen readers.
      document.querySelectorAll("aside mjx-assistive-mml").forEach((text) => text.remove());
    },
  },
};
Reveal.initialize({
  width: WIDTH,
  height: HEIGHT,
  margin: 0,
  center: false,
  display: "flex",
  hash: true,
  slideNumber: "c/t",
  controlsTutorial: false,
  transition: "none",
  plugins: [RevealNotes],
});
