"use strict";(self.rspackChunkkernel_provisioner=self.rspackChunkkernel_provisioner||[]).push([[1],{29(r,o,e){var a=e(27),p=e.n(a),n=e(28),t=(e.n(n))()(p());t.push([r.id,`.jp-TorchOverlay-chipHost {
  display: flex;
  align-items: center;
  padding-left: 6px;
}

.jp-TorchOverlay-chip {
  display: inline-flex;
  align-items: center;
  gap: 5px;
  /* As wide as all that it says, or the toolbar would move its items each time. */
  box-sizing: border-box;
  min-width: 146px;
  max-width: 320px;
  height: 22px;
  padding: 0 8px;
  border: 1px solid var(--jp-border-color1);
  border-radius: 11px;
  background: var(--jp-layout-color1);
  color: var(--jp-ui-font-color1);
  font-family: var(--jp-ui-font-family);
  font-size: var(--jp-ui-font-size1);
  cursor: pointer;
}

.jp-TorchOverlay-chip:hover {
  background: var(--jp-layout-color2);
}

.jp-TorchOverlay-chip:focus-visible {
  outline: 2px solid var(--jp-brand-color1);
  outline-offset: 1px;
}

.jp-TorchOverlay-chipText {
  overflow: hidden;
  white-space: nowrap;
  text-overflow: ellipsis;
  font-variant-numeric: tabular-nums;
}

.jp-TorchOverlay-chipIcon {
  display: inline-flex;
}

.jp-TorchOverlay-chip.jp-mod-waiting {
  color: var(--jp-ui-font-color2);
  border-style: dashed;
}

.jp-TorchOverlay-chip.jp-mod-pending {
  border-color: var(--jp-warn-color0);
  box-shadow: inset 3px 0 0 var(--jp-warn-color0);
}

.jp-TorchOverlay-chip.jp-mod-failed {
  border-color: var(--jp-error-color1);
  box-shadow: inset 3px 0 0 var(--jp-error-color1);
}

.jp-TorchOverlay-ring circle {
  fill: none;
  stroke-width: 2;
}

.jp-TorchOverlay-ringTrack {
  stroke: var(--jp-border-color2);
}

.jp-TorchOverlay-ringDone {
  stroke: var(--jp-brand-color1);
}

.jp-TorchOverlay-ring.jp-mod-turning {
  animation: jp-TorchOverlay-turn 1.2s linear infinite;
}

@keyframes jp-TorchOverlay-turn {
  to {
    transform: rotate(360deg);
  }
}

@media (prefers-reduced-motion: reduce) {
  .jp-TorchOverlay-ring.jp-mod-turning {
    animation-duration: 6s;
  }
}

/* Where the toolbar is narrow, the chip is its icon: with its text, the toolbar would hide it. */
.jp-NotebookPanel-toolbar {
  container: jp-TorchOverlay-toolbar / inline-size;
}

@container jp-TorchOverlay-toolbar (max-width: 860px) {
  .jp-TorchOverlay-chip {
    min-width: 0;
    padding: 0 6px;
  }

  .jp-TorchOverlay-chipText {
    display: none;
  }
}
`,""]),e.d(o,{},{A:t})},26(r,o,e){var a=e(27),p=e.n(a),n=e(28),t=e.n(n),i=e(29),l=e(30),c=e(31),d=e(32),s=e(33),h=t()(p());h.i(i.A),h.i(l.A),h.i(c.A),h.i(d.A),h.i(s.A),h.push([r.id,`
`,""]),e.d(o,{},{A:h})},30(r,o,e){var a=e(27),p=e.n(a),n=e(28),t=(e.n(n))()(p());t.push([r.id,`.jp-TorchOverlay-tile {
  padding-top: 2px;
  color: var(--jp-ui-font-color2);
  font-size: calc(var(--jp-ui-font-size1) * 0.846);
  line-height: 1.2;
  text-align: center;
}

/* The name takes two lines where there is one to follow it: close to it, or it seems to be another's. */
.jp-LauncherCard-label:has(.jp-TorchOverlay-tile) p {
  min-height: 0;
}
`,""]),e.d(o,{},{A:t})},31(r,o,e){var a=e(27),p=e.n(a),n=e(28),t=(e.n(n))()(p());t.push([r.id,`.jp-TorchOverlay-prompt {
  display: flex;
  flex-direction: column;
  gap: 6px;
  padding: 6px 8px;
  border-left: 3px solid var(--jp-brand-color1);
  background: var(--jp-layout-color1);
  color: var(--jp-ui-font-color1);
  font-family: var(--jp-ui-font-family);
  font-size: var(--jp-ui-font-size1);
}

.jp-TorchOverlay-buttons {
  display: flex;
  flex-wrap: wrap;
  gap: 6px;
}

.jp-TorchOverlay-step:empty {
  display: none;
}

.jp-TorchOverlay-step.jp-mod-failed {
  color: var(--jp-error-color0);
}

.jp-TorchOverlay-step pre {
  margin: 4px 0 0;
  white-space: pre-wrap;
  font-family: var(--jp-code-font-family);
  font-size: var(--jp-code-font-size);
}
`,""]),e.d(o,{},{A:t})},32(r,o,e){var a=e(27),p=e.n(a),n=e(28),t=(e.n(n))()(p());t.push([r.id,`.jp-TorchOverlay-panel {
  overflow-y: auto;
  min-width: 220px;
  padding: 8px 12px 24px;
  background: var(--jp-layout-color1);
  color: var(--jp-ui-font-color1);
  font-family: var(--jp-ui-font-family);
  font-size: var(--jp-ui-font-size1);
  line-height: 1.4;
  container-type: inline-size;
}

.jp-TorchOverlay-panel h2,
.jp-TorchOverlay-panel h3,
.jp-TorchOverlay-panel h4,
.jp-TorchOverlay-panel p {
  margin: 0;
}

.jp-TorchOverlay-notebook {
  overflow: hidden;
  padding-bottom: 6px;
  font-size: var(--jp-ui-font-size2);
  font-weight: 600;
  white-space: nowrap;
  text-overflow: ellipsis;
}

.jp-TorchOverlay-empty {
  padding: 24px 8px;
  color: var(--jp-ui-font-color2);
  text-align: center;
}

.jp-TorchOverlay-hint {
  color: var(--jp-ui-font-color2);
  font-size: var(--jp-ui-font-size1);
}

.jp-TorchOverlay-panel code {
  padding: 0;
  background: none;
  color: inherit;
  font-family: var(--jp-code-font-family);
  font-size: var(--jp-code-font-size);
  overflow-wrap: anywhere;
}

/* Sections */

.jp-TorchOverlay-section {
  border-top: 1px solid var(--jp-border-color2);
}

.jp-TorchOverlay-section > summary {
  display: flex;
  align-items: baseline;
  gap: 8px;
  padding: 8px 0;
  cursor: pointer;
  list-style: none;
}

.jp-TorchOverlay-section > summary::-webkit-details-marker {
  display: none;
}

.jp-TorchOverlay-section > summary::before {
  content: '';
  flex: none;
  align-self: center;
  width: 6px;
  height: 6px;
  margin: 0 2px;
  border-right: 2px solid var(--jp-ui-font-color2);
  border-bottom: 2px solid var(--jp-ui-font-color2);
  transform: rotate(-45deg);
}

.jp-TorchOverlay-section[open] > summary::before {
  transform: rotate(45deg);
}

.jp-TorchOverlay-section > summary h3 {
  flex: none;
  font-size: var(--jp-ui-font-size1);
  font-weight: 600;
}

.jp-TorchOverlay-section > summary .jp-TorchOverlay-hint {
  overflow: hidden;
  margin-left: auto;
  white-space: nowrap;
  text-overflow: ellipsis;
}

.jp-TorchOverlay-body,
.jp-TorchOverlay-changing {
  display: flex;
  flex-direction: column;
  gap: 10px;
  padding: 2px 0 14px;
}

.jp-TorchOverlay-changing {
  min-width: 0;
  margin: 0;
  padding: 0;
  border: 0;
}

.jp-TorchOverlay-panel summary:focus-visible,
.jp-TorchOverlay-panel pre:focus-visible,
.jp-TorchOverlay-card:focus-visible {
  outline: 2px solid var(--jp-brand-color1);
  outline-offset: 1px;
}

/* Buttons and fields */

.jp-TorchOverlay-button {
  min-height: 24px;
  padding: 2px 10px;
  border: 1px solid var(--jp-border-color1);
  border-radius: 3px;
  background: var(--jp-layout-color1);
  color: var(--jp-ui-font-color1);
  font: inherit;
  cursor: pointer;
}

.jp-TorchOverlay-button:hover:not(:disabled) {
  background: var(--jp-layout-color2);
}

.jp-TorchOverlay-button:focus-visible {
  outline: 2px solid var(--jp-brand-color1);
  outline-offset: 1px;
}

.jp-TorchOverlay-button:disabled {
  opacity: 0.55;
  cursor: default;
}

.jp-TorchOverlay-button.jp-mod-main {
  border-color: transparent;
  background: var(--jp-accept-color-normal, var(--jp-brand-color1));
  color: white; /* on blue and red, in all themes of JupyterLab */
}

.jp-TorchOverlay-button.jp-mod-main:hover:not(:disabled) {
  background: var(--jp-accept-color-hover, var(--jp-brand-color0));
}

.jp-TorchOverlay-button.jp-mod-danger {
  border-color: transparent;
  background: var(--jp-reject-color-normal, var(--jp-error-color1));
  color: white; /* on blue and red, in all themes of JupyterLab */
}

.jp-TorchOverlay-button.jp-mod-link {
  padding: 2px 4px;
  border-color: transparent;
  background: none;
  color: var(--jp-content-link-color);
}

.jp-TorchOverlay-button.jp-mod-link:hover:not(:disabled) {
  text-decoration: underline;
}

.jp-TorchOverlay-field {
  display: flex;
  flex-wrap: wrap;
  align-items: center;
  gap: 4px 8px;
}

.jp-TorchOverlay-field .jp-HTMLSelect {
  position: relative;
  flex: 1 1 140px;
  min-width: 0;
}

.jp-TorchOverlay-field select {
  width: 100%;
  font: inherit;
}

.jp-TorchOverlay-add {
  display: flex;
  gap: 6px;
}

.jp-TorchOverlay-add input.jp-mod-styled {
  flex: 1 1 auto;
  min-width: 0;
  height: 28px;
  padding: 0 8px;
  border: 1px solid var(--jp-border-color1);
  background: var(--jp-layout-color1);
  color: var(--jp-ui-font-color1);
  font: inherit;
}

.jp-TorchOverlay-add input.jp-mod-styled::placeholder {
  color: var(--jp-ui-font-color2);
  opacity: 1;
}

.jp-TorchOverlay-line {
  display: flex;
  flex-wrap: wrap;
  align-items: center;
  gap: 4px 8px;
}

/* Facts */

.jp-TorchOverlay-facts {
  display: grid;
  grid-template-columns: max-content 1fr;
  gap: 3px 12px;
  margin: 0;
}

.jp-TorchOverlay-facts dt {
  color: var(--jp-ui-font-color2);
}

.jp-TorchOverlay-facts dd {
  margin: 0;
  overflow-wrap: anywhere;
}

/* Lists */

.jp-TorchOverlay-panel ul {
  display: flex;
  flex-direction: column;
  margin: 0;
  padding: 0;
  list-style: none;
}

.jp-TorchOverlay-bases {
  gap: 4px;
}

.jp-TorchOverlay-base {
  display: flex;
  align-items: center;
  justify-content: space-between;
  gap: 8px;
  padding: 6px 8px;
  border: 1px solid var(--jp-border-color2);
  border-radius: 4px;
}

.jp-TorchOverlay-base[aria-current] {
  border-color: var(--jp-brand-color1);
  box-shadow: inset 3px 0 0 var(--jp-brand-color1);
}

.jp-TorchOverlay-base.jp-mod-unfit .jp-TorchOverlay-baseName {
  color: var(--jp-ui-font-color2);
}

.jp-TorchOverlay-mark {
  flex: none;
  color: var(--jp-ui-font-color2);
}

.jp-TorchOverlay-packages > li {
  display: flex;
  flex-wrap: wrap;
  align-items: center;
  justify-content: space-between;
  gap: 2px 8px;
  padding: 5px 0;
  border-bottom: 1px solid var(--jp-border-color3);
}

.jp-TorchOverlay-packages.jp-mod-dense {
  max-height: 320px;
  overflow-y: auto;
}

.jp-TorchOverlay-packages.jp-mod-dense > li {
  padding: 2px 0;
  content-visibility: auto;
  contain-intrinsic-size: auto 22px;
}

.jp-TorchOverlay-package {
  display: flex;
  flex: 1 1 140px;
  flex-direction: column;
  min-width: 0;
}

.jp-TorchOverlay-packages.jp-mod-nested,
.jp-TorchOverlay-branch > .jp-mod-dense {
  padding-left: 14px;
}

.jp-TorchOverlay-packages.jp-mod-nested .jp-TorchOverlay-package {
  flex-direction: row;
  gap: 8px;
}

.jp-TorchOverlay-packages.jp-mod-nested > li {
  padding: 2px 0;
  border-bottom: 0;
  content-visibility: auto;
  contain-intrinsic-size: auto 22px;
}

.jp-TorchOverlay-branch > summary {
  cursor: pointer;
}

.jp-TorchOverlay-branch > summary .jp-TorchOverlay-package {
  display: inline-flex;
  flex-direction: row;
  gap: 8px;
}

.jp-TorchOverlay-warning {
  padding-left: 6px;
  border-left: 3px solid var(--jp-warn-color0);
  color: var(--jp-ui-font-color1);
}

.jp-TorchOverlay-editor {
  flex: 1 1 100%;
}

.jp-TorchOverlay-extras {
  display: flex;
  flex-wrap: wrap;
  gap: 2px 12px;
  margin: 0;
  padding: 0;
  border: 0;
}

.jp-TorchOverlay-extras label {
  display: inline-flex;
  align-items: center;
  gap: 4px;
}

.jp-TorchOverlay-rowButtons {
  display: flex;
  flex-wrap: wrap;
  gap: 2px;
}

.jp-TorchOverlay-panel h4 {
  color: var(--jp-ui-font-color2);
  font-size: var(--jp-ui-font-size1);
  font-weight: 600;
}

/* Cards */

.jp-TorchOverlay-card {
  display: flex;
  flex-direction: column;
  gap: 8px;
  padding: 10px;
  border: 1px solid var(--jp-border-color1);
  border-radius: 4px;
  background: var(--jp-layout-color2);
}

.jp-TorchOverlay-card h4 {
  color: var(--jp-ui-font-color1);
}

.jp-TorchOverlay-card.jp-mod-pending,
.jp-TorchOverlay-notice {
  padding: 8px 10px;
  border-left: 3px solid var(--jp-warn-color0);
  background: var(--jp-layout-color2);
}

.jp-TorchOverlay-page > .jp-TorchOverlay-notice,
.jp-TorchOverlay-page > .jp-TorchOverlay-card,
.jp-TorchOverlay-page > .jp-TorchOverlay-problem,
.jp-TorchOverlay-page > .jp-TorchOverlay-busy {
  margin-bottom: 10px;
}

.jp-TorchOverlay-changes li {
  display: flex;
  gap: 6px;
}

.jp-TorchOverlay-sign {
  flex: none;
  width: 1.2em;
  color: var(--jp-ui-font-color2);
  text-align: center;
}

.jp-TorchOverlay-changes .jp-mod-replace,
.jp-TorchOverlay-changes .jp-mod-downgrade {
  font-weight: 600;
}

.jp-TorchOverlay-problem {
  display: flex;
  flex-direction: column;
  gap: 8px;
  padding: 10px;
  border: 1px solid var(--jp-error-color1);
  border-left-width: 4px;
  border-radius: 4px;
  background: var(--jp-layout-color1);
}

.jp-TorchOverlay-problem strong,
.jp-TorchOverlay-notice p {
  overflow-wrap: anywhere;
}

.jp-TorchOverlay-problem pre,
.jp-TorchOverlay-notice pre,
.jp-TorchOverlay-log {
  max-height: 220px;
  margin: 0;
  padding: 6px 8px;
  overflow: auto;
  border: 1px solid var(--jp-border-color2);
  background: var(--jp-layout-color2);
  color: var(--jp-ui-font-color1);
  font-family: var(--jp-code-font-family);
  font-size: var(--jp-code-font-size);
  white-space: pre-wrap;
  overflow-wrap: anywhere;
}

.jp-TorchOverlay-busy {
  display: flex;
  align-items: center;
  gap: 8px;
}

/* The machine */

.jp-TorchOverlay-machine {
  display: flex;
  flex-direction: column;
  gap: 4px;
}

.jp-TorchOverlay-machine > div:has(meter) {
  display: grid;
  grid-template-columns: 1fr auto;
  gap: 0 8px;
}

.jp-TorchOverlay-machine meter {
  grid-column: 1 / -1;
  width: 100%;
}
`,""]),e.d(o,{},{A:t})},33(r,o,e){var a=e(27),p=e.n(a),n=e(28),t=(e.n(n))()(p());t.push([r.id,`.jp-TorchOverlay-status {
  display: inline-flex;
  align-items: center;
  gap: 5px;
  max-width: 480px;
  height: 100%;
  padding: 0 6px;
  overflow: hidden;
  border: 0;
  background: none;
  color: inherit;
  font: inherit;
  white-space: nowrap;
  text-overflow: ellipsis;
  cursor: pointer;
}

.jp-TorchOverlay-status:hover {
  background: var(--jp-layout-color3);
}

.jp-TorchOverlay-status:focus-visible {
  outline: 2px solid var(--jp-brand-color1);
  outline-offset: -2px;
}
`,""]),e.d(o,{},{A:t})},28(r){r.exports=function(r){var o=[];return o.toString=function(){return this.map(function(o){var e="",a=void 0!==o[5];return o[4]&&(e+="@supports (".concat(o[4],") {")),o[2]&&(e+="@media ".concat(o[2]," {")),a&&(e+="@layer".concat(o[5].length>0?" ".concat(o[5]):""," {")),e+=r(o),a&&(e+="}"),o[2]&&(e+="}"),o[4]&&(e+="}"),e}).join("")},o.i=function(r,e,a,p,n){"string"==typeof r&&(r=[[null,r,void 0]]);var t={};if(a)for(var i=0;i<this.length;i++){var l=this[i][0];null!=l&&(t[l]=!0)}for(var c=0;c<r.length;c++){var d=[].concat(r[c]);a&&t[d[0]]||(void 0!==n&&(void 0===d[5]||(d[1]="@layer".concat(d[5].length>0?" ".concat(d[5]):""," {").concat(d[1],"}")),d[5]=n),e&&(d[2]&&(d[1]="@media ".concat(d[2]," {").concat(d[1],"}")),d[2]=e),p&&(d[4]?(d[1]="@supports (".concat(d[4],") {").concat(d[1],"}"),d[4]=p):d[4]="".concat(p)),o.push(d))}},o}},27(r){r.exports=function(r){return r[1]}},20(r){var o=[];function e(r){for(var e=-1,a=0;a<o.length;a++)if(o[a].identifier===r){e=a;break}return e}function a(r,a){for(var p={},n=[],t=0;t<r.length;t++){var i=r[t],l=a.base?i[0]+a.base:i[0],c=p[l]||0,d="".concat(l," ").concat(c);p[l]=c+1;var s=e(d),h={css:i[1],media:i[2],sourceMap:i[3],supports:i[4],layer:i[5]};if(-1!==s)o[s].references++,o[s].updater(h);else{var v=function(r,o){var e=o.domAPI(o);return e.update(r),function(o){o?(o.css!==r.css||o.media!==r.media||o.sourceMap!==r.sourceMap||o.supports!==r.supports||o.layer!==r.layer)&&e.update(r=o):e.remove()}}(h,a);a.byIndex=t,o.splice(t,0,{identifier:d,updater:v,references:1})}n.push(d)}return n}r.exports=function(r,p){var n=a(r=r||[],p=p||{});return function(r){r=r||[];for(var t=0;t<n.length;t++){var i=e(n[t]);o[i].references--}for(var l=a(r,p),c=0;c<n.length;c++){var d=e(n[c]);0===o[d].references&&(o[d].updater(),o.splice(d,1))}n=l}}},22(r){var o={};r.exports=function(r,e){var a=function(r){if(void 0===o[r]){var e=document.querySelector(r);if(window.HTMLIFrameElement&&e instanceof window.HTMLIFrameElement)try{e=e.contentDocument.head}catch(r){e=null}o[r]=e}return o[r]}(r);if(!a)throw Error("Couldn't find a style target. This probably means that the value for the 'insert' parameter is invalid.");a.appendChild(e)}},24(r){r.exports=function(r){var o=document.createElement("style");return r.setAttributes(o,r.attributes),r.insert(o,r.options),o}},23(r,o,e){r.exports=function(r){var o=e.nc;o&&r.setAttribute("nonce",o)}},21(r){r.exports=function(r){if("u"<typeof document)return{update:function(){},remove:function(){}};var o=r.insertStyleElement(r);return{update:function(e){var a,p,n;a="",e.supports&&(a+="@supports (".concat(e.supports,") {")),e.media&&(a+="@media ".concat(e.media," {")),(p=void 0!==e.layer)&&(a+="@layer".concat(e.layer.length>0?" ".concat(e.layer):""," {")),a+=e.css,p&&(a+="}"),e.media&&(a+="}"),e.supports&&(a+="}"),(n=e.sourceMap)&&"u">typeof btoa&&(a+="\n/*# sourceMappingURL=data:application/json;base64,".concat(btoa(unescape(encodeURIComponent(JSON.stringify(n))))," */")),r.styleTagTransform(a,o,r.options)},remove:function(){var r;null===(r=o).parentNode||r.parentNode.removeChild(r)}}}},25(r){r.exports=function(r,o){if(o.styleSheet)o.styleSheet.cssText=r;else{for(;o.firstChild;)o.removeChild(o.firstChild);o.appendChild(document.createTextNode(r))}}},19(r,o,e){var a=e(20),p=e.n(a),n=e(21),t=e.n(n),i=e(22),l=e.n(i),c=e(23),d=e.n(c),s=e(24),h=e.n(s),v=e(25),u=e.n(v),f=e(26),y={};y.styleTagTransform=u(),y.setAttributes=d(),y.insert=l().bind(null,"head"),y.domAPI=t(),y.insertStyleElement=h(),p()(f.A,y),f.A&&f.A.locals&&f.A.locals}}]);