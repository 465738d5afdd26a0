import { LabIcon } from '@jupyterlab/ui-components';

/** A small sheet on a large one: an overlay on its base. */
export const environmentIcon = new LabIcon({
  name: 'kernel-provisioner:environment',
  svgstr: `<svg xmlns="http://www.w3.org/2000/svg" width="16" viewBox="0 0 24 24">
  <g class="jp-icon3" fill="#616161">
    <path d="M12 14.9 4.3 11 2 12.2l10 5 10-5L19.7 11zM12 19.5l-7.7-3.9L2 16.8l10 5 10-5-2.3-1.2z" opacity=".75"/>
    <path d="M12 2.2 5 6l7 3.6L19 6z"/><path d="M12 12.6 3.6 8.3 2 9.2l10 5 10-5-1.6-.9z" opacity=".9"/>
  </g>
</svg>`
});
